"""Steps that hang, steps that kill their process, and which go first."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import WORKERS, assert_all_workers_are_free, failure_of
from executions import Executions, wait_until
from flows import double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- hard time limits ------------------------------------------------------------------------------------------


def _loop() -> None:
    while True:
        pass


def _sleep() -> None:
    time.sleep(60)


def _swallow() -> None:
    while True:
        with suppress(BaseException):
            time.sleep(60)


def _ignore_signals() -> None:
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(60)


def _sleep_in_c() -> None:
    ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock


@pytest.mark.parametrize("hang", [_loop, _sleep, _swallow, _ignore_signals, _block_signals, _sleep_in_c])
def test_time_limit_ends_a_step_whatever_it_does(executions: Executions, hang: Any, tmp_path: Path) -> None:
    @cf.step(timeout_s=0.3)
    def stuck() -> None:
        with executions.recorded():
            hang()

    run = cf.workflow(lambda: (stuck(), double(1))).run()

    assert time.monotonic() - executions.read()[0].start < 0.3 + 2
    error = failure_of(run)
    assert (error.step, error.kind) == ("stuck", "timeout")
    assert "0.3 s" in str(error)
    assert run.errors()["kind"].tolist() == ["timeout"]
    assert run.value("double") == 2
    assert [e.end for e in executions.read()] == [None]
    assert_all_workers_are_free(tmp_path)


def test_time_limit_ends_what_the_step_had_started(executions: Executions) -> None:
    @cf.step(timeout_s=0.5)
    def stuck() -> None:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        for session in (False, True):
            executions.note(str(subprocess.Popen(command, start_new_session=session).pid))
        with suppress(BaseException):
            time.sleep(60)
        time.sleep(60)

    run = cf.workflow(lambda: stuck()).run()
    pids = [int(pid) for pid in executions.notes()]

    assert failure_of(run).kind == "timeout"
    assert len(pids) == 2
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), timeout_s=5)


def test_timed_out_attempt_is_retried_where_retry_on_says_so(executions: Executions) -> None:
    def slow_at_first() -> int:
        with executions.recorded() as here:
            if here.attempt == 1:
                time.sleep(60)
            return here.attempt

    options = {"timeout_s": 0.3, "retries": 1, "retry_delay_s": 0}
    again = cf.workflow(lambda: cf.step(slow_at_first, retry_on=cf.StepTimeoutError, **options)()).run()
    never = cf.workflow(lambda: cf.step(slow_at_first, retry_on=KeyError, **options)()).run()

    assert again.result() == 2
    assert again.timeline()["outcome"].tolist() == ["timeout", "success"]
    assert failure_of(never).kind == "timeout"
    assert len(executions.read()) == 3


def test_time_limit_is_each_items_own() -> None:
    @cf.step(timeout_s=1.5)
    def work(i: int) -> int:
        time.sleep(30 if i == 3 else 0.3)
        return i

    run = cf.workflow(lambda: work.map(range(6))).run()

    assert run.items("work")["status"].tolist() == ["success"] * 3 + ["failure"] + ["success"] * 2
    assert failure_of(run).index == 3


def test_signal_that_comes_late_stops_nothing(executions: Executions) -> None:
    @cf.step
    def work(i: int) -> int:
        with executions.recorded():
            os.kill(os.getpid(), signal.SIGUSR1)  # as for an attempt that has ended meanwhile
            return i

    run = cf.workflow(lambda: work.map(range(200))).run()

    assert run.result() == [*range(200)]
    assert sorted(e.index or 0 for e in executions.read()) == [*range(200)]


# --- the budget of lost workers -----------------------------------------------------------------------------------


def _exit() -> None:
    os._exit(1)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


@pytest.mark.parametrize("die", [_exit, _kill, _segfault])
def test_step_that_kills_its_process_runs_once_more_than_its_losses_and_is_poisoned(
    executions: Executions, die: Any
) -> None:
    @cf.step(max_worker_losses=1)
    def deadly() -> None:
        with executions.recorded():
            die()

    run = cf.workflow(lambda: (deadly(), double(1))).run()

    assert failure_of(run).kind == "poisoned"
    assert len(executions.read()) == 2
    assert run.timeline().query("step == 'deadly'")["outcome"].tolist() == ["worker_lost", "worker_lost"]
    assert run.value("double") == 2


def test_three_losses_are_tolerated_by_default(executions: Executions) -> None:
    @cf.step
    def deadly() -> None:
        with executions.recorded():
            os._exit(1)

    assert failure_of(cf.workflow(lambda: deadly()).run()).kind == "poisoned"
    assert len(executions.read()) == 4


def test_no_loss_is_tolerated_where_none_may_be(executions: Executions) -> None:
    @cf.step(max_worker_losses=0)
    def deadly() -> None:
        with executions.recorded():
            os._exit(1)

    assert failure_of(cf.workflow(lambda: deadly()).run()).kind == "poisoned"
    assert len(executions.read()) == 1


def test_deadly_item_does_not_take_the_others_with_it(executions: Executions) -> None:
    @cf.step(max_worker_losses=1)
    def work(i: int) -> int:
        with executions.recorded():
            if i == 7:
                os._exit(1)
            return i

    run = cf.workflow(lambda: work.map(range(20))).run()
    deadly = [e for e in executions.read() if e.index == 7]

    assert run.errors()[["index", "kind"]].to_numpy().tolist() == [[7, "poisoned"]]
    assert list(run.value("work", partial=True)) == [i for i in range(20) if i != 7]
    assert len(deadly) == 2


def test_step_survives_a_lost_worker() -> None:
    @cf.step
    def work() -> int:
        if cf.current().attempt == 1:
            os._exit(1)
        return cf.current().attempt

    assert cf.workflow(lambda: work()).run().result() == 2


def test_exceptions_and_lost_workers_are_counted_apart(executions: Executions) -> None:
    @cf.step(retries=2, retry_delay_s=0, max_worker_losses=2)
    def work() -> None:
        with executions.recorded() as here:
            if here.attempt % 2:
                os._exit(1)
            raise ValueError(here.attempt)

    error = failure_of(cf.workflow(lambda: work()).run())

    # Lost at 1 and 3, raised at 2 and 4; the third loss, at 5, is one too many, with one retry left.
    assert error.kind == "poisoned"
    assert [e.attempt for e in executions.read()] == [1, 2, 3, 4, 5]


# --- priorities ------------------------------------------------------------------------------------------------------


@pytest.fixture
def queue_up(tmp_path: Path, executions: Executions) -> Iterator[Callable[[], None]]:
    """All workers are busy; calling it makes one of them free."""
    gates = [tmp_path / f"gate-{i}" for i in range(WORKERS)]

    def occupy(i: int) -> None:
        executions.note("busy")
        wait_until(gates[i].exists)

    blockers = cf.map(occupy, range(WORKERS))
    wait_until(lambda: len(executions.notes()) == WORKERS)
    yield gates[0].touch
    for gate in gates:
        gate.touch()
    blockers.result()


def test_runs_of_a_higher_priority_go_first(queue_up: Callable[[], None], executions: Executions) -> None:
    @cf.step
    def work(i: int) -> None:
        with executions.recorded():
            time.sleep(0.005)

    runs = [cf.map(work, range(6), priority=priority, name=f"p{priority}") for priority in (5, 0, 9, 3)]
    queue_up()
    for run in runs:
        run.result()

    assert [e.step for e in executions.read()] == ["p9"] * 6 + ["p5"] * 6 + ["p3"] * 6 + ["p0"] * 6


def test_runs_of_one_priority_take_turns(queue_up: Callable[[], None], executions: Executions) -> None:
    @cf.step
    def work(i: int) -> None:
        with executions.recorded():
            time.sleep(0.06)

    runs = [cf.map(work, range(3), name=name) for name in ("a", "b", "c")]
    queue_up()
    for run in runs:
        run.result()

    assert [e.step for e in executions.read()] == ["a", "b", "c"] * 3


def test_steps_of_a_higher_priority_go_first_within_a_run(queue_up: Callable[[], None], executions: Executions) -> None:
    @cf.step
    def work() -> None:
        with executions.recorded():
            pass

    run = cf.workflow(lambda: [work.options(name=f"p{p}", priority=p)() for p in (4, 1, 8, 6)]).submit()
    queue_up()
    run.result()

    assert [e.step for e in executions.read()] == ["p8", "p6", "p4", "p1"]
