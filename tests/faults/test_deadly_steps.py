"""Steps that kill their own process: a few times, then they have failed, and everything else goes on."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import failure_of
from executions import wait_until

import celeryflow as cf
from celeryflow.engine.processes import is_alive

from .oracle import Oracle

pytestmark = pytest.mark.usefixtures("runtime")


def _exit() -> None:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _crash() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    os.abort()


@pytest.mark.parametrize(
    ("die", "how"),
    [
        (_exit, "exited with code 3"),
        (_kill, "was killed by SIGKILL"),
        (_crash, "was killed by SIGSEGV"),
        (_abort, "was killed by SIGABRT"),
    ],
)
def test_step_that_kills_its_process_is_poisoned_and_says_how(
    die: Callable[[], None], how: str, oracle: Oracle
) -> None:
    @cf.step
    def deadly() -> None:
        with oracle.recorded():
            die()

    @cf.step
    def harmless(i: int) -> int:
        with oracle.recorded():
            time.sleep(0.03)
            return i

    other = cf.workflow(lambda: harmless.map(range(30))).submit()
    run = cf.workflow(lambda: (deadly(), harmless.options(name="beside")(7))).run()

    error = failure_of(run)
    assert (error.step, error.kind) == ("deadly", "poisoned")
    assert f"{how} while running it, more often than max_worker_losses allows" in str(error)
    assert len(oracle.read("deadly")) == 3 + 1
    attempts = run.timeline().query("step == 'deadly'")
    assert attempts["outcome"].tolist() == ["worker_lost"] * 4
    assert attempts["attempt"].tolist() == [1, 2, 3, 4]
    assert all(how in reason for reason in attempts["reason"])
    assert run.errors()[["step", "kind"]].to_numpy().tolist() == [["deadly", "poisoned"]]
    # Nothing else has suffered.
    assert run.value("beside") == 7
    assert other.result() == [*range(30)]
    assert len(oracle.read(run=other.id)) == 30


def test_what_a_step_has_started_ends_with_its_process(oracle: Oracle) -> None:
    @cf.step(max_worker_losses=0)
    def deadly() -> None:
        with oracle.recorded():
            sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
            for session in (False, True):
                oracle.note(str(subprocess.Popen(sleep, start_new_session=session).pid))
            _kill()

    run = cf.workflow(lambda: deadly()).run()

    assert failure_of(run).kind == "poisoned"
    pids = [int(pid) for pid in oracle.notes()]
    assert len(pids) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in pids), timeout_s=2)


def test_async_step_that_kills_its_process_takes_no_other_with_it(oracle: Oracle) -> None:
    @cf.step(max_worker_losses=1, concurrency=8)
    async def wait(i: int) -> int:
        with oracle.recorded():
            await asyncio.sleep(0.2)
            if i == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(0.2)
            return i

    run = cf.workflow(lambda: wait.map(range(8), on_error="skip")).run()

    assert run.result() == [0, 1, 2, 4, 5, 6, 7]
    assert run.errors()[["index", "kind"]].to_numpy().tolist() == [[3, "poisoned"]]
    assert len(oracle.by_item()["wait", 3]) == 2


def test_sys_exit_is_an_exception_of_the_step(oracle: Oracle) -> None:
    @cf.step(retries=1, retry_delay_s=0)
    def leave() -> None:
        with oracle.recorded():
            sys.exit(3)

    run = cf.workflow(lambda: leave()).run()

    assert failure_of(run).kind == "exception"
    assert "SystemExit: 3" in str(failure_of(run))
    # It is no `Exception`, which `retry_on` lists, and no process has died.
    assert len(oracle.read()) == 1


def test_every_attempt_says_how_it_ended(oracle: Oracle) -> None:
    """One run whose steps end in each way that there is."""

    @cf.step
    def work(how: str) -> Any:
        with oracle.recorded() as here:
            if how == "exception" and here.attempt == 1:
                raise ValueError("the first time")
            if how == "worker_lost" and here.attempt == 1:
                _kill()
            if how in ("timeout", "cancelled"):
                time.sleep(60)
            if how == "memory":
                held = bytearray(os.urandom(4096)) * (400 * 256)
                time.sleep(60)
                del held
            return here.attempt

    @cf.workflow
    def flow() -> Any:
        again = work.options(retries=1, retry_delay_s=0)
        kinds = {"exception": again, "worker_lost": work, "success": work}
        made = [step.options(name=how, priority=9)(how) for how, step in kinds.items()]
        made.append(work.options(name="timeout", timeout_s=0.3, priority=9)("timeout"))
        made.append(work.options(name="memory", memory_limit_bytes=300 * 2**20, priority=9)("memory"))
        made.append(work.options(name="cancelled", priority=1)("cancelled"))
        return made

    run = flow.submit()
    wait_until(lambda: oracle.read("cancelled") and (run.steps()["done"] + run.steps()["failed"]).sum() == 5)
    run.cancel("enough")

    timeline = run.timeline()
    ends = {step: list(rows["outcome"]) for step, rows in timeline.groupby("step")}
    reasons = {step: list(rows["reason"].fillna("")) for step, rows in timeline.groupby("step")}
    assert ends == {
        "success": ["success"],
        "exception": ["exception", "success"],
        "worker_lost": ["worker_lost", "success"],
        "timeout": ["timeout"],
        "memory": ["memory"],
        "cancelled": ["cancelled"],
    }
    assert "the first time" in reasons["exception"][0]
    assert "SIGKILL" in reasons["worker_lost"][0]
    assert "0.3 s" in reasons["timeout"][0]
    assert "MiB" in reasons["memory"][0]
    assert "enough" in reasons["cancelled"][0]
    kinds = run.errors().set_index("step")["kind"].to_dict()
    assert kinds == {"timeout": "timeout", "memory": "memory", "cancelled": "cancelled"}
