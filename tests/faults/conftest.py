"""The house of the fault tests: an oracle, chance with its seed, and places to break things in.

A test that takes long has the marker ``slow_fault``: `run.py faults` runs it, and `run.py test` does not.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from shell import Shell, opened

from .cells import Cells
from .oracle import Oracle
from .servers import client_of

SEED = "CELERYFLOW_FAULT_SEED"
"""Variable with the seed of a test that is to be repeated."""


@pytest.fixture
def oracle(tmp_path: Path) -> Oracle:
    """A file in which the steps write down their executions themselves."""
    return Oracle(str(tmp_path / "oracle.jsonl"))


@pytest.fixture
def chance() -> random.Random:
    """Where to strike. The seed is shown where the test fails."""
    seed = os.environ.get(SEED) or secrets.token_hex(4)
    print(f"{SEED}={seed}")
    return random.Random(seed)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A directory of the test's own for kernels and commands; nothing of it is left behind."""
    with opened(tmp_path) as shell:
        yield shell


@pytest.fixture
def cells(request: pytest.FixtureRequest, shell: Shell) -> Iterator[Cells]:
    """A kernel with a runtime of its own and two processes, which knows the module's FLOW and has done its WARM_UP."""
    module = request.module
    cells = Cells(shell, "\n".join([module.FLOW, "cf.connect(workers=2)", getattr(module, "WARM_UP", "")]))
    yield cells
    cells.close()


@pytest.fixture
def client(shell: Shell, cells: Cells) -> Iterator[redis.Redis]:
    """A client of the kernel's server."""
    with client_of(shell.directory) as client:
        yield client


@pytest.fixture
def witness(shell: Shell) -> Oracle:
    """What the steps in the shell's directory write down."""
    return Oracle(str(shell.directory / "oracle.jsonl"))
