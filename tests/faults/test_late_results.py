"""A process that is stopped past its lease and woken: its result comes too late, is refused, and is told of."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from executions import wait_until

import celeryflow as cf

from .oracle import Oracle

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.mark.slow_fault
def test_result_of_a_process_that_was_paused_past_its_lease_is_refused(oracle: Oracle, tmp_path: Path) -> None:
    @cf.step
    def work() -> int:
        with oracle.recorded() as here:
            wait_until((tmp_path / f"go-{here.attempt}").exists, timeout_s=60)
            return here.attempt

    @cf.step
    def after(attempt: int) -> int:
        with oracle.recorded():
            wait_until((tmp_path / "go-after").exists, timeout_s=60)
            return attempt

    run = cf.workflow(lambda: after(work())).submit()
    (first,) = wait_until(oracle.read)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: len(oracle.read()) == 2, timeout_s=20)
        (tmp_path / "go-2").touch()
        wait_until(lambda: oracle.read("after"))
        (tmp_path / "go-1").touch()
    finally:
        os.kill(first.pid, signal.SIGCONT)
    wait_until(lambda: run.timeline()["outcome"].tolist()[:2] == ["stale", "success"])
    (tmp_path / "go-after").touch()

    assert run.result(timeout_s=20) == 2
    timeline = run.timeline()
    assert timeline["outcome"].tolist() == ["stale", "success", "success"]
    assert "silent for longer than its lease" in timeline["reason"][0]
    assert "came too late" in timeline["reason"][0]
    assert run.events().query("event == 'success' and step == 'work'").shape[0] == 1
