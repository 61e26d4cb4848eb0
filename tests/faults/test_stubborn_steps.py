"""Steps that do not want to end: gone within 2 s of their limit or of a cancel, with everything that they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_all_workers_are_free
from executions import wait_until

import celeryflow as cf
from celeryflow.engine.processes import is_alive

from . import figures
from .oracle import Oracle

pytestmark = pytest.mark.usefixtures("runtime")

STOP_S, LIMIT_S = 2.0, 0.6
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def ignore_signals(oracle: Oracle) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def swallow_everything(oracle: Oracle) -> None:
    while True:
        with suppress(BaseException):
            time.sleep(600)


def swallow_and_return(oracle: Oracle) -> None:
    oracle.note(str(subprocess.Popen(SLEEP, start_new_session=True).pid))
    with suppress(BaseException):
        time.sleep(600)


def leave_children(oracle: Oracle) -> None:
    """Ends when told to, and leaves a child, one in a session of its own, and a grandchild."""
    oracle.note(str(subprocess.Popen(SLEEP).pid))
    oracle.note(str(subprocess.Popen(SLEEP, start_new_session=True).pid))
    source = f"import subprocess, time; print(subprocess.Popen({SLEEP!r}).pid, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    oracle.note(str(child.pid))
    assert child.stdout is not None
    oracle.note(child.stdout.readline().strip())
    time.sleep(600)


def daemonize(oracle: Oracle) -> None:
    """Leaves a process that has forked twice, leads a session of its own and ignores signals."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)
            oracle.note(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    os.wait()
    time.sleep(600)


def daemonize_and_swallow(oracle: Oracle) -> None:
    with suppress(BaseException):
        daemonize(oracle)
    swallow_everything(oracle)


HANGS: dict[Callable[[Oracle], None], int] = {
    ignore_signals: 0,
    swallow_everything: 0,
    swallow_and_return: 1,
    leave_children: 4,
    daemonize: 1,
    daemonize_and_swallow: 1,
}
"""And how many processes they leave."""


@pytest.mark.parametrize("by", ["limit", "cancel"])
@pytest.mark.parametrize("hang", HANGS, ids=lambda hang: hang.__name__)
def test_stubborn_step_is_gone_with_all_that_it_started(
    hang: Callable[[Oracle], None], by: str, oracle: Oracle, tmp_path: Path
) -> None:
    @cf.step(timeout_s=LIMIT_S if by == "limit" else None)
    def stuck() -> None:
        with oracle.recorded():
            hang(oracle)

    @cf.step
    def neighbour() -> int:
        with oracle.recorded():
            wait_until((tmp_path / "go").exists, timeout_s=60)
            return 1

    beside = cf.workflow(lambda: neighbour()).submit()
    run = cf.workflow(lambda: stuck()).submit()
    (execution,) = wait_until(lambda: oracle.read("stuck"))
    pids = {int(pid) for pid in wait_until(lambda: len(oracle.notes()) == HANGS[hang] and [*oracle.notes(), "0"])} - {0}
    if by == "cancel":
        run.cancel("enough")
    told_at = time.monotonic() if by == "cancel" else execution.start + LIMIT_S

    def is_gone() -> bool:
        return not any(is_alive(pid) for pid in (execution.pid, *pids))

    wait_until(is_gone)
    seconds = time.monotonic() - told_at
    figures.time(f"stop of a stubborn step by {by}", seconds)
    assert seconds < STOP_S
    assert run.wait(timeout_s=5).status == ("failure" if by == "limit" else "cancelled")
    # What ran in another process has noticed nothing.
    (tmp_path / "go").touch()
    assert beside.result(timeout_s=10) == 1
    assert len(oracle.read("neighbour")) == 1
    assert_all_workers_are_free(tmp_path)


@pytest.mark.parametrize("by", ["limit", "cancel"])
def test_stubborn_async_step_is_gone_and_its_neighbours_run_again_uncharged(
    by: str, oracle: Oracle, tmp_path: Path
) -> None:
    @cf.step(timeout_s=LIMIT_S if by == "limit" else None, concurrency=4)
    async def stuck() -> None:
        with oracle.recorded():
            while True:
                with suppress(BaseException):
                    await asyncio.sleep(600)

    @cf.step(concurrency=4, max_worker_losses=0)
    async def beside(i: int) -> int:
        with oracle.recorded() as here:
            while not (tmp_path / "go").exists():
                await asyncio.sleep(0.01)
            return here.attempt

    others = cf.workflow(lambda: beside.map(range(3))).submit()
    run = cf.workflow(lambda: stuck()).submit()
    (execution,) = wait_until(lambda: oracle.read("stuck"))
    if by == "cancel":
        run.cancel("enough")
    told_at = time.monotonic() if by == "cancel" else execution.start + LIMIT_S
    wait_until(lambda: not is_alive(execution.pid))
    seconds = time.monotonic() - told_at
    figures.time("stop of a stubborn async step", seconds)
    assert seconds < STOP_S
    (tmp_path / "go").touch()

    assert others.result(timeout_s=20) == [1, 1, 1]


def test_children_of_an_async_step_go_with_the_last_one_of_its_run(oracle: Oracle) -> None:
    @cf.step(concurrency=4)
    async def start(i: int) -> None:
        with oracle.recorded():
            child = await asyncio.create_subprocess_exec(*SLEEP)
            oracle.note(str(child.pid))
            await asyncio.sleep(600)

    run = cf.workflow(lambda: start.map(range(4))).submit()
    pids = [int(pid) for pid in wait_until(lambda: len(oracle.notes()) == 4 and oracle.notes())]
    run.cancel()

    wait_until(lambda: not any(is_alive(pid) for pid in pids), timeout_s=STOP_S)


def test_processes_of_a_step_that_ended_by_itself_stay(oracle: Oracle, tmp_path: Path) -> None:
    """A limit or a cancel ends what a step has started; a success does not."""

    @cf.step
    def start() -> int:
        return subprocess.Popen(SLEEP, start_new_session=True).pid

    pid: Any = cf.workflow(lambda: start()).run().result()
    try:
        assert_all_workers_are_free(tmp_path)
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
