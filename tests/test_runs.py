"""A Run: how it is started, how it ends, waiting for it."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from executions import Executions, wait_until
from flows import double, fails, waits, works

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- run, submit, inline, check ------------------------------------------------------------------


def test_run_gives_the_run_when_it_succeeded() -> None:
    run = works.run(2)

    assert isinstance(run, cf.Run)
    assert (run.status, run.result()) == ("success", 8)


def test_run_gives_the_run_when_it_failed() -> None:
    run = fails.run()

    assert (run.status, run.steps()["status"].tolist()) == ("failure", ["failure", "skipped"])


def test_result_and_not_run_is_what_raises() -> None:
    run = fails.run()

    with pytest.raises(cf.StepFailedError, match=r"'fail'.*ValueError: bad luck"):
        run.result()


def test_check_raises_what_result_would() -> None:
    with pytest.raises(cf.StepFailedError, match="bad luck"):
        fails.run(check=True)
    assert works.run(1, check=True).result() == 4


def test_submit_returns_at_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    run = waits.submit(str(gate))
    assert run.status in ("pending", "running")

    gate.touch()
    assert run.result() == str(gate)


def test_status_goes_from_running_to_success(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = waits.submit(str(gate))

    wait_until(lambda: run.status == "running")
    gate.touch()

    wait_until(lambda: run.status == "success")


def test_inline_runs_in_this_process_and_gives_the_same() -> None:
    @cf.step
    def where(x: int) -> tuple[int, int, str]:
        return os.getpid(), threading.get_ident(), cf.current().step

    @cf.workflow
    def etl() -> Any:
        return where(1), where.map([1, 2]), works(3)

    run = etl.run(inline=True)
    here = (os.getpid(), threading.get_ident())

    assert run.result() == ((*here, "where"), [(*here, "where-2")] * 2, 12)
    assert run.steps()["status"].tolist() == ["success"] * 4
    assert list(run.items("where-2")["key"]) == ["1", "2"]


def test_inline_reaches_a_debugger_and_what_the_notebook_holds() -> None:
    seen: list[Any] = []

    @cf.workflow
    def etl() -> Any:
        return cf.step(seen.append)(inspect.currentframe() is not None)

    etl.run(inline=True, check=True)

    assert seen == [True]


def test_inline_failure_ends_like_any_other() -> None:
    run = fails.run(inline=True)

    assert run.status == "failure"
    with pytest.raises(cf.StepFailedError) as caught:
        run.result()
    assert isinstance(caught.value.__cause__, ValueError)
    assert run.errors()[["step", "kind", "error"]].to_numpy().tolist() == [["fail", "exception", "ValueError"]]
    assert run.steps()["status"].tolist() == ["failure", "skipped"]


def test_inline_edits_of_an_input_are_not_seen_by_siblings() -> None:
    @cf.step
    def empty(found: list[int]) -> int:
        found.clear()
        return len(found)

    @cf.workflow
    def etl() -> Any:
        items = cf.step(lambda: [1, 2])()
        return empty(items), empty(items), items

    assert etl.run(inline=True).result() == (0, 0, [1, 2])


# --- wait, result, await, cancel -------------------------------------------------------------------


def test_wait_gives_the_run_still_running_after_its_timeout(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = waits.submit(str(gate))

    began = time.monotonic()
    assert run.wait(timeout_s=0.2) is run
    assert 0.2 <= time.monotonic() - began < 5
    assert run.status == "running"

    gate.touch()
    assert run.wait().status == "success"


def test_result_raises_after_its_timeout_and_the_run_goes_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = waits.submit(str(gate))

    with pytest.raises(cf.RunTimeoutError, match=f"{run.id}.*0.1 s") as caught:
        run.result(timeout_s=0.1)
    assert isinstance(caught.value, TimeoutError)

    gate.touch()
    assert run.result() == str(gate)


def test_await_gives_the_result_and_lets_other_coroutines_run(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def open_gate() -> str:
        await asyncio.sleep(0)
        gate.touch()
        return "opened"

    async def both() -> Any:
        return await asyncio.gather(waits.submit(str(gate)), open_gate())

    assert asyncio.run(both()) == [str(gate), "opened"]


def test_several_runs_are_awaited_at_once() -> None:
    async def all_of_them() -> Any:
        return await asyncio.gather(*(works.submit(i) for i in range(20)))

    assert asyncio.run(all_of_them()) == [4 * i for i in range(20)]


def test_await_raises_what_result_would() -> None:
    async def wait() -> Any:
        return await fails.submit()

    with pytest.raises(cf.StepFailedError, match="bad luck"):
        asyncio.run(wait())


def test_cancelled_run_says_so_with_its_reason(tmp_path: Path, executions: Executions) -> None:
    never = str(tmp_path / "never")

    @cf.step
    def hang() -> None:
        executions.note("started")
        wait_until(Path(never).exists, timeout_s=60)
        executions.note("ended")

    run = cf.workflow(lambda: double(hang())).submit()
    wait_until(executions.notes)
    run.cancel("changed my mind")

    with pytest.raises(cf.RunCancelledError, match="changed my mind"):
        run.result(timeout_s=10)
    assert run.status == "cancelled"
    # The worker is free again, long before the step would have given up.
    assert works.run(1).result() == 4
    assert executions.notes() == ["started"]


def test_cancel_of_a_finished_run_changes_nothing() -> None:
    run = works.run(1)

    run.cancel("too late")

    assert (run.status, run.result()) == ("success", 4)


def test_interrupted_run_is_cancelled(tmp_path: Path) -> None:
    started, never = tmp_path / "started", tmp_path / "never"
    main = threading.main_thread().ident

    @cf.step
    def hang() -> None:
        started.touch()
        wait_until(never.exists, timeout_s=60)

    def interrupt() -> None:
        import signal

        wait_until(started.exists)
        signal.pthread_kill(main, signal.SIGINT)

    before = set(cf.history()["run"])
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        cf.workflow(lambda: hang()).run()

    (mine,) = set(cf.history()["run"]) - before
    assert cf.attach(mine).wait(10).status == "cancelled"
