"""``wf.resume(run)``: the arguments of an earlier run, the code of now."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


MAPPED = """
    @cf.step
    def work(x):
        with executions.recorded():
            if x % 10 == 3{but}:
                raise ValueError(f"no {{x}}")
            return x * {factor}

    @cf.step
    def total(xs):
        with executions.recorded():
            return sum(xs)

    @cf.workflow
    def mapped(n):
        return total(work.map(list(range(n))))
"""


def test_after_a_step_was_mended_only_what_failed_runs(cells: Notebook, ran: Any) -> None:
    cells.cell(MAPPED.format(but="", factor=1))
    before = cells["mapped"].run(500)
    assert before.status == "failure"
    ran()
    cells.cell(MAPPED.format(but=" and False", factor=2))
    run = cells["mapped"].resume(before, rerun="failed")

    failed = [x for x in range(500) if x % 10 == 3]
    assert run.result() == sum(range(500)) + sum(failed)
    assert ran() == {"total": 1, **{("work", x): 1 for x in failed}}
    assert (run.id != before.id, before.status) == (True, "failure")
    assert (before.resumed_from, run.resumed_from, cf.attach(run.id).resumed_from) == (None, before.id, before.id)
    assert "50 of 500 items" in run.explain("work")


def test_by_default_what_changed_runs_again_too(cells: Notebook, ran: Any) -> None:
    cells.cell(MAPPED.format(but="", factor=1))
    before = cells["mapped"].run(50)
    ran()
    assert cells["mapped"].resume(before.id).wait().status == "failure"
    assert ran() == {("work", x): 1 for x in range(50) if x % 10 == 3}
    cells.cell(MAPPED.format(but=" and False", factor=2))
    run = cells["mapped"].resume(before)

    assert run.result() == 2 * sum(range(50))
    assert ran() == {"total": 1, **{("work", x): 1 for x in range(50)}}
    assert "code of work()" in run.explain("work") or "constant of work()" in run.explain("work")


def test_arguments_are_those_of_the_run(executions: Executions) -> None:
    keep = cf.step(lambda *args, **kwargs: (args, kwargs), name="keep")
    wf = cf.workflow(lambda a, b=2, *c, **d: keep(a, b, *c, **d), name="arguments")
    before = wf.run([1], 3, "x", z=5)
    assert wf.resume(before).result() == before.result() == (([1], 3, "x"), {"z": 5})


def test_a_running_run_is_not_resumed_nor_one_twice(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @cf.step
    def hold() -> None:
        wait_until(gate.exists, timeout_s=60)
        raise ValueError("over")

    wf = cf.workflow(lambda: hold(), name="guarded")
    run = wf.submit()
    with pytest.raises(cf.RunError, match="still running"):
        wf.resume(run)
    gate.touch()
    run.wait()
    gate.unlink()

    outcomes: list[Any] = []

    def resume() -> None:
        try:
            outcomes.append(wf.resume(run))
        except cf.RunError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=resume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = [outcome for outcome in outcomes if isinstance(outcome, cf.Run)]
    assert len(started) == 1
    assert sum("is being resumed as" in str(outcome) for outcome in outcomes) == 3
    gate.touch()
    started[0].wait()
    assert wf.resume(run).wait().status == "failure"


def test_a_resume_that_fails_to_start_can_be_tried_again() -> None:
    class Odd(Exception):
        pass

    broken = [True]

    def body() -> Any:
        if broken[0]:
            raise Odd
        return cf.step(lambda: 1, name="one")()

    wf = cf.workflow(body, name="shaky")
    broken[0] = False
    run = wf.run()
    broken[0] = True
    with pytest.raises(Odd):
        wf.resume(run)
    broken[0] = False
    assert wf.resume(run).result() == 1


def test_what_cannot_be_resumed_or_reused() -> None:
    one = cf.step(lambda x=1: 1, name="one")
    wf = cf.workflow(lambda x=1: one(), name="plain")
    other = cf.workflow(lambda: one(), name="other")
    run, inline = wf.run(), wf.run(inline=True)

    with pytest.raises(cf.RunError, match="of workflow 'plain', not 'other'"):
        other.resume(run)
    with pytest.raises(cf.InvalidOptionError, match="'changed', 'failed', not 'all'"):
        wf.resume(run, rerun="all")
    with pytest.raises(cf.InvalidOptionError, match="takes a Run or its id"):
        wf.resume(3)  # type: ignore[arg-type]
    with pytest.raises(cf.UnknownRunError, match="no run 'plain-1'"):
        wf.resume("plain-1")
    with pytest.raises(cf.UnknownRunError, match="no run 'plain-1'"):
        wf.run(reuse="plain-1")
    with pytest.raises(cf.InvalidOptionError, match="takes a Run, its id"):
        wf.submit(reuse=True)  # type: ignore[call-overload]
    with pytest.raises(cf.InvalidOptionError, match="ran in this process"):
        wf.run(reuse=inline)
    with pytest.raises(cf.InvalidOptionError, match="inline=True"):
        wf.run(reuse=run, inline=True)
    with pytest.raises(cf.RunError, match="did not store the arguments"):
        wf.resume(wf.run(threading.Lock()))
    with pytest.raises(cf.RunError, match="did not store the arguments"):
        cf.workflow(lambda: one(), name="one").resume(cf.map(one, [1]).wait())
    with pytest.raises(cf.InvalidOptionError, match="cache of step"):
        cf.step(cache=1)(one)
    assert other.run(reuse=run).steps().reused.tolist() == [True]
