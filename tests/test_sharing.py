"""Who goes first: priorities across runs, and equal runs beside each other, by the order that the steps write down."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import WORKERS
from executions import Execution, Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

ITEMS = 1000


def begun_between(executions: list[Execution], after: float, before: float) -> int:
    return len([e for e in executions if after < e.start < before])


def test_urgent_step_of_another_run_starts_within_one_item(executions: Executions) -> None:
    """Between its submit and its start each process begins one chunk more at most: 100 ms, or a single slow item."""

    @cf.step
    def common(i: int) -> None:
        with executions.recorded():
            time.sleep(0.02)

    @cf.step(priority=9)
    def urgent() -> float:
        with executions.recorded():
            return time.monotonic()

    slow = cf.map(common, range(ITEMS), priority=5)
    wait_until(lambda: len([e for e in executions.read() if e.end]) > 20 * WORKERS)
    first = cf.workflow(lambda: urgent()).run(check=True)
    slow.cancel("seen enough")

    (started,) = executions.read("urgent", first.id)
    submitted = first.events()["at"].iloc[0].timestamp() - (time.time() - time.monotonic())
    assert begun_between(executions.read("common"), submitted, started.start) <= 3 * WORKERS
    assert slow.wait(timeout_s=20).status == "cancelled"


def test_urgent_steps_are_all_begun_before_any_further_common_one(executions: Executions) -> None:
    """Strict: as long as urgent work is ready, nothing else is claimed."""

    @cf.step
    def common(i: int) -> None:
        with executions.recorded():
            time.sleep(0.06)

    @cf.step
    def urgent(i: int) -> None:
        with executions.recorded():
            time.sleep(0.06)

    slow = cf.map(common, range(ITEMS), priority=5)
    wait_until(lambda: len(executions.read("common")) > 3 * WORKERS)
    cf.map(urgent, range(20), priority=9).result(timeout_s=60)
    slow.cancel("seen enough")

    starts = [e.start for e in executions.read("urgent")]
    assert begun_between(executions.read("common"), starts[0], starts[-1]) <= WORKERS
    assert slow.wait(timeout_s=20).status == "cancelled"


@pytest.mark.parametrize("seconds", [0.005, 0.06])
def test_equal_runs_beside_each_other_get_equal_shares(executions: Executions, seconds: float) -> None:
    @cf.step
    def work(i: int) -> None:
        with executions.recorded():
            time.sleep(seconds)

    runs = [cf.map(work, range(ITEMS)) for _ in range(2)]
    wait_until(lambda: all(len(done(executions, run)) > 10 for run in runs))
    before = [len(done(executions, run)) for run in runs]
    wait_until(lambda: len(executions.read()) > sum(before) + 120, timeout_s=60)
    one, other = (len(done(executions, run)) - n for run, n in zip(runs, before, strict=True))
    for run in runs:
        run.cancel("seen enough")

    assert abs(one - other) <= 0.2 * max(one, other)


def done(executions: Executions, run: cf.Run[Any]) -> list[Execution]:
    return [e for e in executions.read(run=run.id) if e.end is not None]
