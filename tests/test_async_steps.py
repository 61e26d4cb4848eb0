"""Steps that are coroutines: many at a time in a process, each with its own limits, output and end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_all_workers_are_free, failure_of
from executions import Executions, most_at_a_time, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


def meeting(folder: Path, count: int) -> Any:
    """A coroutine function: each that is called with a number waits until all `count` have come."""
    path = str(folder)

    async def meet(number: int) -> None:
        (Path(path) / f"here-{number}").touch()
        while len([*Path(path).glob("here-*")]) < count:
            await asyncio.sleep(0.01)

    return meet


# --- at a time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_map", [False, True])
def test_200_steps_that_wait_half_a_second_end_in_under_4_s(is_map: bool, executions: Executions) -> None:
    @cf.step
    async def wait(i: int) -> int:
        with executions.recorded():
            await asyncio.sleep(0.5)
            return i

    cf.workflow(lambda: wait.map([0] * 8)).run(check=True)  # the workers are up, and know the step
    run = cf.workflow(lambda: wait.map(range(200)) if is_map else [wait(i) for i in range(200)]).run()
    times = run.timeline()

    assert run.result() == [*range(200)]
    assert (times["finished_at"].max() - times["claimed_at"].min()).total_seconds() < 4
    assert len(executions.read(run=run.id)) == 200


def test_process_runs_no_more_than_concurrency_at_a_time(executions: Executions) -> None:
    @cf.step(concurrency=3)
    async def wait(i: int) -> None:
        with executions.recorded():
            await asyncio.sleep(0.05)

    cf.workflow(lambda: wait.map(range(20))).run(check=True)
    by_process = {pid: [e for e in executions.read() if e.pid == pid] for pid in {e.pid for e in executions.read()}}

    assert max(map(most_at_a_time, by_process.values())) == 3


def test_two_steps_of_one_run_wait_beside_each_other(tmp_path: Path) -> None:
    meet = meeting(tmp_path, 6)

    @cf.step
    async def left(i: int) -> None:
        await meet(i)

    @cf.step
    async def right(i: int) -> None:
        await meet(3 + i)

    run = cf.workflow(lambda: (left.map(range(3)), right.map(range(3)))).submit()

    assert run.result(timeout_s=20) == ([None] * 3, [None] * 3)


def test_few_async_steps_leave_processes_to_others(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @cf.step
    async def wait(i: int) -> None:
        while not gate.exists():
            await asyncio.sleep(0.01)

    @cf.step
    def other() -> str:
        return "done"

    waiting = cf.workflow(lambda: wait.map(range(8))).submit()
    wait_until(lambda: waiting.events().query("event == 'claimed'").shape[0] == 8)

    assert cf.workflow(lambda: other()).submit().result(timeout_s=60) == "done"
    gate.touch()
    waiting.result()


def test_async_and_plain_steps_feed_each_other() -> None:
    @cf.step
    async def numbers(n: int) -> list[int]:
        return [*range(n)]

    @cf.step
    async def double(x: int) -> int:
        await asyncio.sleep(0.001)
        return 2 * x

    @cf.step
    def add(a: int, b: int) -> int:
        return a + b

    @cf.workflow
    def work() -> Any:
        found = numbers(30)
        doubled = double.map(found)
        return cf.step(sum)(double.map(add.map(doubled, found)))

    assert work.run().result() == sum(6 * i for i in range(30))


# --- each for itself ------------------------------------------------------------------------------------------------


def test_current_and_output_are_each_steps_own(tmp_path: Path) -> None:
    meet = meeting(tmp_path, 8)

    @cf.step(concurrency=8)
    async def work(i: int) -> tuple[str, int | None]:
        print(f"{i} begins")
        await meet(i)
        print(i, end="")
        await asyncio.gather(asyncio.to_thread(sys.stdout.write, " in a thread\n"), asyncio.sleep(0.01))
        cf.current().log(f"{i} ends")
        return cf.current().step, cf.current().index

    run = cf.workflow(lambda: work.map(range(8))).run()
    logs = run.logs()

    assert run.result() == [("work", i) for i in range(8)]
    # Where a neighbour ends between two writes, what there is of a line is a line of its own.
    assert {i: "".join(logs[logs["index"] == i]["text"]) for i in range(8)} == {
        i: f"{i} begins{i} in a thread{i} ends" for i in range(8)
    }


def test_failure_keeps_the_last_lines_that_it_wrote_itself(tmp_path: Path) -> None:
    meet = meeting(tmp_path, 4)

    @cf.step
    async def work(i: int) -> None:
        print(f"{i} was here")
        await meet(i)
        await asyncio.sleep(i / 20)
        if i == 3:
            raise ValueError(i)

    run = cf.workflow(lambda: work.map(range(4))).run()

    assert run.errors()["log_tail"].tolist() == ["3 was here"]


def test_exceptions_are_retried_and_absorbed_as_in_plain_steps() -> None:
    @cf.step(retries=1, retry_delay_s=0, retry_on=ValueError)
    async def work(i: int) -> tuple[int, int]:
        await asyncio.sleep(0.001)
        if i == 2 or cf.current().attempt == 1:
            raise ValueError(i)
        return i, cf.current().attempt

    run = cf.workflow(lambda: work.map(range(4), on_error="skip")).run()

    assert run.result() == [(0, 2), (1, 2), (3, 2)]
    assert run.errors()[["index", "kind", "error"]].to_numpy().tolist() == [[2, "exception", "ValueError"]]


def test_step_that_cancels_itself_has_failed() -> None:
    @cf.step
    async def work() -> None:
        raise asyncio.CancelledError("enough")

    assert "CancelledError: enough" in str(failure_of(cf.workflow(lambda: work()).run()))


# --- what is stopped ------------------------------------------------------------------------------------------------


async def _sleep() -> None:
    await asyncio.sleep(60)


async def _block() -> None:
    time.sleep(60)


async def _swallow() -> None:
    while True:
        with suppress(BaseException):
            await asyncio.sleep(60)


async def _block_and_swallow() -> None:
    while True:
        with suppress(BaseException):
            time.sleep(60)


@pytest.mark.parametrize("hang", [_sleep, _block, _swallow, _block_and_swallow])
def test_time_limit_ends_one_step_and_charges_no_other(hang: Any, executions: Executions, tmp_path: Path) -> None:
    @cf.step(timeout_s=0.4)
    async def stuck() -> None:
        await hang()

    @cf.step(max_worker_losses=0)
    async def work(i: int) -> int:
        with executions.recorded():
            await asyncio.sleep(0.8)
            return cf.current().attempt

    run = cf.workflow(lambda: (work.map(range(6)), stuck())).run()

    assert (failure_of(run).step, failure_of(run).kind) == ("stuck", "timeout")
    assert run.value("work") == [1] * 6
    assert run.timeline()["outcome"].tolist().count("timeout") == 1
    if hang is _sleep or hang is _block:
        assert len(executions.read()) == 6
    assert_all_workers_are_free(tmp_path)


def test_stopped_step_may_clean_up(executions: Executions) -> None:
    @cf.step(timeout_s=0.3)
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            executions.note("cleaned up")

    assert failure_of(cf.workflow(lambda: work()).run()).kind == "timeout"
    wait_until(lambda: executions.notes() == ["cleaned up"])


def test_steps_that_are_stopped_together_all_clean_up_to_the_end(executions: Executions) -> None:
    @cf.step(concurrency=64)
    async def hold(i: int) -> None:
        with executions.recorded():
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0.1)
                executions.note(f"{i} is clean")

    run = cf.map(hold, range(64))
    wait_until(lambda: len(executions.read()) == 64)
    run.cancel()
    run.wait()
    wait_until(lambda: len(executions.notes()) == 64)


def test_timed_out_attempt_is_retried_where_retry_on_says_so() -> None:
    @cf.step(timeout_s=0.3, retries=1, retry_delay_s=0, retry_on=cf.StepTimeoutError)
    async def slow_at_first() -> int:
        if cf.current().attempt == 1:
            await asyncio.sleep(60)
        return cf.current().attempt

    run = cf.workflow(lambda: slow_at_first()).run()

    assert run.result() == 2
    assert run.timeline()["outcome"].tolist() == ["timeout", "success"]


def test_cancelled_run_ends_its_steps_and_no_others(tmp_path: Path, executions: Executions) -> None:
    gate = tmp_path / "gate"

    @cf.step
    async def wait(i: int) -> int:
        try:
            executions.note("begun")
            while not gate.exists():
                await asyncio.sleep(0.01)
            return i
        except asyncio.CancelledError:
            executions.note(f"{cf.current().run_id} cancelled")
            raise

    doomed, other = (cf.workflow(lambda: wait.map(range(4))).submit() for _ in range(2))
    wait_until(lambda: executions.notes().count("begun") == 8)
    doomed.cancel()
    wait_until(lambda: executions.notes().count(f"{doomed.id} cancelled") == 4)
    gate.touch()

    assert other.result() == [0, 1, 2, 3]
    assert len(executions.notes()) == 12


@pytest.mark.parametrize("losses", [0, 1])
def test_step_that_kills_its_process_poisons_no_other(losses: int, executions: Executions) -> None:
    @cf.step(max_worker_losses=losses)
    async def work(i: int) -> int:
        with executions.recorded():
            await asyncio.sleep(0.05)
            if i == 7:
                os._exit(1)
            return i

    run = cf.workflow(lambda: work.map(range(20))).run()

    assert run.errors()[["index", "kind"]].to_numpy().tolist() == [[7, "poisoned"]]
    assert list(run.value("work", partial=True)) == [i for i in range(20) if i != 7]
    assert len([e for e in executions.read() if e.index == 7]) == 2


# --- what blocks ----------------------------------------------------------------------------------------------------


def test_step_that_blocks_the_loop_is_reported_by_name() -> None:
    @cf.step
    async def wait(i: int) -> None:
        await asyncio.sleep(0.5)

    @cf.step
    async def greedy() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.6)

    @cf.step
    async def greedy_inside() -> None:
        async def part() -> None:
            time.sleep(0.6)

        await asyncio.gather(part())

    run = cf.workflow(lambda: (wait.map(range(200)), greedy(), greedy_inside())).run(check=True)
    warnings = run.logs()[lambda logs: logs["text"].str.contains("blocked the event loop")]

    assert sorted(warnings["step"]) == ["greedy", "greedy_inside"]
    for step, text in zip(warnings["step"], warnings["text"], strict=True):
        assert f"step {step!r}" in text
        assert "asyncio.to_thread" in text


# --- how it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 129, 1.5, "4", True])
def test_concurrency_is_1_to_128(value: Any) -> None:
    async def work() -> None: ...

    with pytest.raises(cf.InvalidOptionError, match=f"concurrency of step 'work' .* 1 .* 128, not {value!r}"):
        cf.step(work, concurrency=value)


def test_concurrency_is_for_async_steps_alone() -> None:
    @cf.step(concurrency=None)
    def work() -> None: ...

    with pytest.raises(cf.InvalidOptionError, match="concurrency of step 'work' is for async def"):
        work.options(concurrency=4)


def test_queue_is_shown_as_the_user_wrote_it() -> None:
    @cf.step(concurrency=5)
    async def work() -> None: ...

    assert cf.workflow(lambda: work()).run().steps()["queue"].tolist() == ["default"]


def test_inline_run_executes_async_steps(tmp_path: Path) -> None:
    @cf.step(concurrency=5)
    async def work(i: int) -> int:
        await asyncio.sleep(0)
        return i

    flow = cf.workflow(lambda: work.map(range(3)))

    async def in_a_notebook() -> Any:
        return flow.run(inline=True).result()

    assert flow.run(inline=True).result() == [0, 1, 2]
    assert asyncio.run(in_a_notebook()) == [0, 1, 2]


def test_plain_function_that_returns_a_coroutine_is_awaited() -> None:
    async def later(x: int) -> int:
        return x

    assert cf.workflow(lambda: cf.step(lambda x: later(x))(3)).run().result() == 3
