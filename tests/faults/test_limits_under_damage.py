"""Limits of whole runs hold while workers die: `timeout_s`, `fail_fast`, and what each says of itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Runtime, assert_all_workers_are_free, failure_of
from executions import wait_until

import celeryflow as cf

from .damage import kill, kill_a_pool_process, kill_a_worker, pool_processes, repeated
from .oracle import Oracle

OVER_S = 5.0
"""A deadline is seen by a supervisor's next look: within 0.1 s, or when its worker is at work again."""


@pytest.mark.parametrize("strike", [kill_a_pool_process, kill_a_worker], ids=["pool processes", "the worker"])
def test_run_ends_at_its_timeout_while_its_workers_die(
    strike: Any, runtime: Runtime, oracle: Oracle, chance: Any
) -> None:
    @cf.step(max_worker_losses=100)
    def work(i: int) -> None:
        with oracle.recorded():
            time.sleep(600)

    run = cf.workflow(lambda: work.map(range(10)), timeout_s=2.0).submit()
    wait_until(oracle.read)
    with repeated(lambda: strike(runtime.directory, chance), 0.7, most=2) as kills:
        run.wait(timeout_s=20)

    assert kills
    with pytest.raises(cf.RunTimeoutError, match="deadline"):
        run.result()
    assert (run.snapshot().duration_s() or 99) < 2.0 + OVER_S
    assert set(run.steps()["status"]) == {"cancelled"}
    wait_until(lambda: pool_processes(runtime.directory))


def test_fail_fast_ends_the_rest_though_a_worker_was_just_lost(
    runtime: Runtime, oracle: Oracle, tmp_path: Path
) -> None:
    @cf.step
    def slow(i: int) -> None:
        with oracle.recorded():
            time.sleep(600)

    @cf.step
    def bad() -> None:
        with oracle.recorded():
            wait_until((tmp_path / "go").exists)
            raise ValueError("bad")

    @cf.workflow(fail_fast=True)
    def flow() -> Any:
        return bad.options(priority=9)(), slow.map(range(50))

    run = flow.submit()
    (first,) = wait_until(lambda: oracle.read("slow"))
    kill(first.pid)
    wait_until(lambda: len(oracle.read("slow")) == 2)
    (tmp_path / "go").touch()

    assert run.wait(timeout_s=5).status == "failure"
    assert failure_of(run).step == "bad"
    assert run.steps().set_index("step")["status"].to_dict() == {"bad": "failure", "slow": "cancelled"}
    assert run.timeline().query("step == 'slow'")["outcome"].tolist() == ["worker_lost", "cancelled"]
    assert_all_workers_are_free(tmp_path)


def test_steps_limit_holds_for_the_attempt_after_a_lost_worker(runtime: Runtime, oracle: Oracle) -> None:
    @cf.step(timeout_s=1.0)
    def stuck() -> None:
        with oracle.recorded():
            time.sleep(600)

    run = cf.workflow(lambda: stuck()).submit()
    (first,) = wait_until(oracle.read)
    kill(first.pid)
    run.wait(timeout_s=10)

    assert failure_of(run).kind == "timeout"
    assert run.timeline()["outcome"].tolist() == ["worker_lost", "timeout"]
