"""Limits over all workers and on memory: `max_running` and `memory_limit_bytes`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from executions import Executions, most_at_a_time, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- max_running ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_map", [False, True])
def test_no_more_than_max_running_run_at_a_time(is_map: bool, executions: Executions) -> None:
    @cf.step(max_running=1)
    def one_at_a_time(i: int) -> int:
        with executions.recorded():
            time.sleep(0.01)
            return i

    run = cf.workflow(lambda: one_at_a_time.map(range(12)) if is_map else [one_at_a_time(i) for i in range(12)]).run()

    assert run.result() == [*range(12)]
    assert most_at_a_time(executions.read()) == 1


def test_async_steps_keep_max_running_over_processes_and_runs(executions: Executions) -> None:
    @cf.step(max_running=5)
    async def five_at_a_time(i: int) -> int:
        with executions.recorded():
            await asyncio.sleep(0.02)
            return i

    flow = cf.workflow(lambda: five_at_a_time.map(range(30)))
    runs = [flow.submit() for _ in range(2)]

    assert [run.result() for run in runs] == [[*range(30)]] * 2
    assert most_at_a_time(executions.read()) == 5


def test_capped_step_keeps_others_of_its_run_from_nothing(tmp_path: Path, executions: Executions) -> None:
    gate = tmp_path / "gate"

    @cf.step(max_running=1)
    def capped(i: int) -> int:
        with executions.recorded():
            wait_until(gate.exists)
            return i

    @cf.step
    def other(i: int) -> int:
        return i

    run = cf.workflow(lambda: ([capped(i) for i in range(4)], [other(i) for i in range(4)])).submit()
    wait_until(lambda: run.steps().query("step.str.startswith('other') and status == 'success'").shape[0] == 4)
    assert len(executions.read()) == 1
    gate.touch()

    assert run.result() == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert most_at_a_time(executions.read()) == 1


def test_two_runs_of_a_step_count_together(executions: Executions) -> None:
    @cf.step(max_running=1)
    def one_at_a_time(i: int) -> None:
        with executions.recorded():
            time.sleep(0.02)

    runs = [cf.workflow(lambda: one_at_a_time.map(range(6))).submit() for _ in range(3)]
    for run in runs:
        run.result()

    assert most_at_a_time(executions.read()) == 1
    assert {e.run for e in executions.read()} == {run.id for run in runs}


@pytest.mark.parametrize("is_async", [False, True])
def test_place_of_a_process_that_died_is_free_again(is_async: bool, executions: Executions) -> None:
    def die_once(i: int) -> int:
        with executions.recorded() as here:
            if here.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return i

    async def die_once_async(i: int) -> int:
        await asyncio.sleep(0)
        return die_once(i)

    step = cf.step(die_once_async if is_async else die_once, name="deadly", max_running=1)
    run = cf.workflow(lambda: step.map(range(3))).submit()

    assert run.result(timeout_s=30) == [0, 1, 2]
    assert [e.index for e in executions.read()].count(0) == 2


def test_place_of_a_step_past_its_time_is_free_when_it_has_ended(executions: Executions) -> None:
    @cf.step(max_running=1, timeout_s=0.3)
    def work(i: int) -> int:
        with executions.recorded():
            try:
                time.sleep(60 if i == 0 else 0)
            finally:
                time.sleep(0.2)  # cleaning up after the stop
                executions.note(f"{time.monotonic()}")
            return i

    run = cf.workflow(lambda: work.map(range(3), on_error="skip")).run()
    ended = float(executions.notes()[0])

    assert run.result() == [1, 2]
    assert all(e.start > ended for e in executions.read() if e.index != 0)


def test_cancelled_run_gives_its_places_back(tmp_path: Path, executions: Executions) -> None:
    @cf.step(max_running=1)
    def work(seconds: float) -> str:
        with executions.recorded():
            time.sleep(seconds)
            return "done"

    flow = cf.workflow(lambda seconds: work(seconds))
    doomed = flow.submit(60)
    wait_until(executions.read)
    waiting = flow.submit(0)
    doomed.cancel()

    assert waiting.result(timeout_s=10) == "done"


def test_capped_steps_that_are_quick_and_their_users_all_run() -> None:
    @cf.step(max_running=1)
    def one_at_a_time(i: int) -> int:
        return i + 1

    @cf.step
    def double(i: int) -> int:
        return 2 * i

    run = cf.workflow(lambda: cf.step(sum)(double.map(one_at_a_time.map(double.map(range(500)))))).run()

    assert run.result() == sum(2 * (2 * i + 1) for i in range(500))


@pytest.mark.parametrize("option", ["max_running"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_limit_is_a_whole_number_of_at_least_1(option: str, value: Any) -> None:
    def work() -> None: ...

    with pytest.raises(cf.InvalidOptionError, match=f"{option} of step 'work' .* at least 1, not {value!r}"):
        cf.step(work, **{option: value})


def test_max_running_leaves_the_shown_queue_alone() -> None:
    @cf.step(max_running=2)
    def work() -> None: ...

    run = cf.workflow(lambda: work()).run()

    assert run.steps()["queue"].tolist() == ["default"]
