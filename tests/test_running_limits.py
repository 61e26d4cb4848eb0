"""Limits over all workers and on memory: `max_running` and `memory_limit_bytes`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import assert_all_workers_are_free, failure_of
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


@pytest.mark.parametrize("option", ["max_running", "memory_limit_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_limit_is_a_whole_number_of_at_least_1(option: str, value: Any) -> None:
    def work() -> None: ...

    with pytest.raises(
        cf.InvalidOptionError, match=f"{option} of step 'work' .* at least 1 and at most .*, not {value!r}"
    ):
        cf.step(work, **{option: value})


def test_max_running_leaves_the_shown_queue_alone() -> None:
    @cf.step(max_running=2)
    def work() -> None: ...

    run = cf.workflow(lambda: work()).run()

    assert run.steps()["queue"].tolist() == ["default"]


# --- memory_limit_bytes ------------------------------------------------------------------------------------------

MIB = 2**20


def hold(size_bytes: int) -> None:
    """Have memory, touched, until somebody ends it."""
    data = bytearray(os.urandom(4096)) * (size_bytes // 4096)
    time.sleep(60)
    del data


def test_step_over_its_memory_limit_fails_and_says_so(tmp_path: Path, executions: Executions) -> None:
    gate = tmp_path / "gate"

    @cf.step(memory_limit_bytes=300 * MIB)
    def large() -> None:
        hold(400 * MIB)

    @cf.step
    def neighbour() -> int:
        with executions.recorded() as here:
            wait_until(gate.exists, timeout_s=60)
            return here.attempt

    run = cf.workflow(lambda: (large(), neighbour())).submit()
    wait_until(lambda: len(run.errors()) == 1)
    gate.touch()

    error = failure_of(run)
    assert (error.step, error.kind) == ("large", "memory")
    assert re.search(r"StepMemoryError: held [34]\d\d\.\d MiB", str(error))
    assert f"over its memory_limit_bytes of {300 * MIB} (300.0 MiB)" in str(error)
    assert run.errors()[["step", "kind", "error"]].to_numpy().tolist() == [["large", "memory", "StepMemoryError"]]
    assert run.timeline().query("step == 'large'")["outcome"].tolist() == ["memory"]
    assert run.value("neighbour") == 1
    assert len(executions.read()) == 1
    assert_all_workers_are_free(tmp_path)


def test_what_a_step_started_counts_for_its_memory(executions: Executions) -> None:
    @cf.step(memory_limit_bytes=300 * MIB)
    def large() -> None:
        source = "import time; data = b'x' * (400 * 2**20); print('up', flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", source])
        executions.note(str(child.pid))
        child.wait()

    run = cf.workflow(lambda: large()).run()

    assert failure_of(run).kind == "memory"
    wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in executions.notes()), timeout_s=5)


def test_mapped_values_do_not_count_for_memory() -> None:
    @cf.step
    def make() -> Any:
        import numpy as np

        return np.ones(50 * MIB)  # 400 MiB

    @cf.step(memory_limit_bytes=300 * MIB)
    def read(values: Any) -> float:
        total = float(values.sum())
        time.sleep(0.5)  # some looks at its memory
        return total

    assert cf.workflow(lambda: read(make())).run().result() == 50 * MIB


def test_memory_is_tried_again_where_retry_on_says_so() -> None:
    def large_at_first() -> int:
        if cf.current().attempt == 1:
            hold(400 * MIB)
        time.sleep(0.3)
        return cf.current().attempt

    options = {"memory_limit_bytes": 300 * MIB, "retries": 1, "retry_delay_s": 0}
    again = cf.workflow(lambda: cf.step(large_at_first, retry_on=cf.StepMemoryError, **options)()).run()
    never = cf.workflow(lambda: cf.step(large_at_first, retry_on=cf.StepTimeoutError, **options)()).run()

    assert again.result() == 2
    assert again.timeline()["outcome"].tolist() == ["memory", "success"]
    assert failure_of(never).kind == "memory"


def test_only_the_item_over_its_memory_limit_fails() -> None:
    @cf.step(memory_limit_bytes=300 * MIB, timeout_s=50)
    def work(i: int) -> int:
        if i == 3:
            hold(400 * MIB)
        return i

    run = cf.workflow(lambda: work.map(range(6), on_error="skip")).run()

    assert run.result() == [0, 1, 2, 4, 5]
    assert run.errors()[["index", "kind"]].to_numpy().tolist() == [[3, "memory"]]


def test_memory_limit_is_for_plain_functions() -> None:
    async def work() -> None: ...

    with pytest.raises(cf.InvalidOptionError, match="memory_limit_bytes of step 'work' is for plain functions"):
        cf.step(work, memory_limit_bytes=300 * MIB)
