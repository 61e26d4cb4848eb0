"""Planned stops charge nobody: a step that may lose no worker survives five restarts of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Runtime
from executions import wait_until
from shell import Shell

import celeryflow as cf

from .cells import TESTS
from .damage import workers
from .oracle import Oracle

BEGIN = f"""
import sys
sys.path.insert(0, {TESTS!r})
import celeryflow as cf
from executions import wait_until
from faults.oracle import Oracle
from pathlib import Path

oracle = Oracle("oracle.jsonl")

@cf.step(max_worker_losses=0)
def long():
    with oracle.recorded() as here:
        wait_until(Path("go").exists, timeout_s=100)
        return here.attempt

print(cf.workflow(lambda: long()).submit().id)
"""


def test_long_step_survives_a_restart_of_its_worker_uncharged(runtime: Runtime, oracle: Oracle, tmp_path: Path) -> None:
    gate = tmp_path / "go"

    @cf.step(max_worker_losses=0)
    def long() -> int:
        with oracle.recorded() as here:
            wait_until(gate.exists, timeout_s=100)
            return here.attempt

    run = cf.workflow(lambda: long()).submit()
    wait_until(oracle.read)
    (worker,) = workers(runtime.directory)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: len(oracle.read()) == 2, timeout_s=60)
    gate.touch()

    assert run.result(timeout_s=20) == 1
    assert run.timeline()["outcome"].tolist() == ["success"]
    assert "released" in run.events()["event"].tolist()


@pytest.mark.slow_fault
def test_long_step_survives_five_restarts_by_signal_redeploy_and_down(shell: Shell) -> None:
    oracle = Oracle(str(shell.directory / "oracle.jsonl"))

    def await_execution(number: int) -> Any:
        return wait_until(lambda: len(oracle.read()) == number and oracle.read()[-1], timeout_s=30)

    assert shell("up", "-c", "1").returncode == 0
    run = shell(source=BEGIN).stdout.strip()
    for restart in range(1, 6):
        execution = await_execution(restart)
        if restart in (2, 5):  # a redeploy
            assert shell("down").returncode == 0
            assert shell("up", "-c", str(restart)).returncode == 0
        else:
            os.kill(execution.ppid, signal.SIGTERM)
    await_execution(6)
    (shell.directory / "go").touch()

    wait_until(lambda: shell.json("status", run, "--json")["status"] == "success", timeout_s=30)
    assert [e.attempt for e in oracle.read()] == [1] * 6
    assert [e.end is not None for e in oracle.read()] == [False] * 5 + [True]
