"""How much a worker takes at a time, and when it gives what it has: after 100 ms or 1 MiB."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")

KNOWN = 80
"""Items that make a step known as cheap, so that many of it travel in one claim."""


@cf.step
def make(size: int = 0, seconds: float = 0.0) -> bytes:
    time.sleep(seconds)
    return os.urandom(size)


def committed(**more: list[Any]) -> list[int]:
    """How many of further items, after the cheap ones, each commit stored."""
    cheap = {name: [0] * KNOWN + given for name, given in more.items()}
    run = cf.workflow(lambda: make.map(**cheap)).run()
    assert run.status == "success"
    events = run.events()
    ranges = events[events["event"] == "success"]["items"].dropna()
    assert max(min(last, KNOWN) - first for first, last in ranges) > 8
    return [last - max(first, KNOWN) for first, last in ranges if last > KNOWN]


def test_a_chunk_that_has_made_1_mib_is_committed() -> None:
    assert max(committed(size=[250_000] * KNOWN)) <= 6


def test_a_chunk_that_has_run_100_ms_is_committed() -> None:
    assert max(committed(seconds=[0.04] * KNOWN)) <= 4


def test_a_server_that_has_forgotten_the_scripts_gets_them_again() -> None:
    assert cf.map(make, [1, 2]).wait().status == "success"

    current().link.store.client.script_flush()

    assert cf.map(make, [1, 2]).wait().status == "success"
