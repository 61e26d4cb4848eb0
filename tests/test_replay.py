"""``run.inputs``, ``run.replay`` and ``run.as_completed``: one execution, here once more, and items as they come."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook
from executions import Executions, wait_until
from flows import add, double, fail, works

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step
def give(*values: Any) -> list[Any]:
    return list(values)


@cf.step(retries=1, retry_delay_s=0)
def picky(x: int, table: Any = None, *more: int, strict: bool = True, **rest: Any) -> Any:
    here = cf.current()
    if x == 2 and strict:
        raise ValueError(f"no {x}: {here.run_id} {here.step} {here.index} {here.attempt}")
    return x, table, more, rest


# --- inputs --------------------------------------------------------------------------------------------------------


def test_inputs_of_a_step_by_the_names_of_its_parameters() -> None:
    def body() -> Any:
        ref = double(4)
        return add(ref, 1, 2, ref, scale=double(ref)), picky(1, {"deep": [ref]}, 5, colour=ref)

    run = cf.workflow(body).run()

    assert run.inputs("double") == {"x": 4}
    assert run.inputs("add") == {"a": 8, "b": 1, "more": (2, 8), "scale": 16}
    assert run.inputs("picky") == {"x": 1, "table": {"deep": [8]}, "more": (5,), "colour": 8}


def test_inputs_of_an_item_of_a_map() -> None:
    def body() -> Any:
        rows = give(1, 2, 3)
        doubled = double.map(rows)
        return picky.map(doubled, cf.unmapped(doubled), strict=False), add.map({"a": 1, "b": 2}, give(5, 6))

    run = cf.workflow(body).run()

    assert run.inputs("double", 2) == {"x": 3}
    assert run.inputs("picky", 0) == {"x": 2, "table": [2, 4, 6], "strict": False}
    assert run.inputs("add", 1) == {"a": 2, "b": 6}


def test_inputs_are_as_they_were_whatever_is_done_to_them() -> None:
    run = cf.workflow(lambda: double(give([1], [2]))).run()

    run.inputs("double")["x"].clear()

    assert run.inputs("double") == {"x": [[1], [2]]}


def test_inputs_of_what_never_got_them_say_so(tmp_path: Path) -> None:
    def body() -> Any:
        return double(fail("luck")), double.map(fail.map([1, 2]))

    run = cf.workflow(body).run()

    with pytest.raises(cf.RunError, match=r"step 'double' of run .* has not got its inputs: step 'fail' is failure"):
        run.inputs("double")
    with pytest.raises(cf.RunError, match=r"item 1 of step 'double-2' .* its input item of 'fail-2' failed"):
        run.replay("double-2", 1)


def test_what_cannot_be_meant_is_refused() -> None:
    run = cf.workflow(lambda: (double(1), double.map([1, 2]), cf.gather([fail(1)])), name="three").run()

    with pytest.raises(cf.UnknownStepError, match="Did you mean 'double'"):
        run.inputs("doubel")
    with pytest.raises(cf.UnknownError, match=r"'double-2' has no item 2: it has 2 items"):
        run.replay("double-2", 2)
    with pytest.raises(cf.UnknownError, match="no item -1"):
        run.inputs("double-2", -1)
    with pytest.raises(cf.UnknownError, match="'double' is no map"):
        run.inputs("double", 0)
    with pytest.raises(cf.ArgumentError, match=r"'double-2' is a map, and no item of it failed"):
        run.inputs("double-2")
    with pytest.raises(cf.ArgumentError, match="whole number, not 'one'"):
        run.inputs("double-2", "one")  # type: ignore[arg-type]
    with pytest.raises(cf.RunError, match="'gather' calls no function"):
        run.inputs("gather")


# --- replay --------------------------------------------------------------------------------------------------------


def test_replay_raises_the_original_exception_with_its_own_frames(notebook: Notebook) -> None:
    notebook.cell(
        """
        class Special(Exception): pass

        def inner(rows):
            raise Special(len(rows))

        @cf.step
        def outer(rows, factor):
            doubled = [factor * row for row in rows]
            return inner(doubled)

        run = cf.workflow(lambda: outer(cf.step(lambda: [1, 2], name="rows")(), factor=2)).run()
        """
    )
    run = notebook["run"]

    with pytest.raises(Exception, match=r"^2$") as caught:
        run.replay("outer")

    assert type(caught.value) is notebook["Special"]
    frames = list(traceback.walk_tb(caught.value.__traceback__))
    assert [f.f_code.co_name for f, _ in frames][-2:] == ["outer", "inner"]
    assert frames[-2][0].f_locals["doubled"] == [2, 4]
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_replay_knows_the_execution_and_prints_here(capsys: pytest.CaptureFixture[str]) -> None:
    @cf.step
    def where(x: int) -> Any:
        here = cf.current()
        print(f"row {x}")
        here.log("so far so good")
        return os.getpid(), here.run_id, here.step, here.index, here.attempt, here.idempotency_key

    run = cf.workflow(lambda: (where.map([5, 6]), where(7))).run()
    events = len(run.events())
    capsys.readouterr()

    assert run.replay("where", 1) == (os.getpid(), run.id, "where", 1, 1, f"{run.id}/where/1")
    assert run.replay("where-2") == (os.getpid(), run.id, "where-2", None, 1, f"{run.id}/where-2")
    assert capsys.readouterr().out == "row 6\nso far so good\nrow 7\nso far so good\n"
    assert len(cf.attach(run.id).events()) == events
    with pytest.raises(cf.NotInWorkflowError):
        cf.current()


def test_replay_takes_the_first_failed_item_and_its_last_attempt() -> None:
    run = cf.workflow(lambda: picky.map([1, 2, 3], on_error="skip")).run()

    with pytest.raises(ValueError, match=f"no 2: {run.id} picky 1 2"):
        run.replay("picky")
    row = run.errors().iloc[0]
    with pytest.raises(ValueError, match="no 2"):
        run.replay(row["step"], row["index"])
    assert run.inputs("picky") == {"x": 2}
    assert run.replay("picky", 2)[0] == 3


def test_replay_of_the_row_of_a_plain_step() -> None:
    run = cf.workflow(lambda: fail("luck")).run()
    row = run.errors().iloc[0]

    with pytest.raises(ValueError, match="bad luck"):
        run.replay(row["step"], row["index"])


def test_replay_runs_the_stored_code_or_a_mended_one(notebook: Notebook) -> None:
    notebook.cell("step = cf.step(lambda x: 1 / x, name='divide')\nrun = cf.workflow(lambda: step(0)).run()")
    notebook.cell("step = cf.step(lambda x: 0 if x == 0 else 1 / x, name='divide')")
    run = notebook["run"]

    with pytest.raises(ZeroDivisionError):
        run.replay("divide")
    assert run.replay("divide", function=notebook["step"]) == 0


def test_replay_of_an_async_step(executions: Executions) -> None:
    @cf.step
    async def ask(x: int) -> Any:
        await asyncio.sleep(0)
        return cf.current().index, x

    run = cf.workflow(lambda: ask.map([4, 5])).run()

    async def in_a_notebook() -> Any:
        return run.replay("ask", 1)

    assert run.replay("ask", 0) == (0, 4)
    assert asyncio.run(in_a_notebook()) == (1, 5)


def test_replay_of_steps_that_others_added() -> None:
    @cf.workflow
    def each(n: int) -> Any:
        return fail(n) if n > 1 else double(n)

    run = cf.workflow(lambda: each.map(give(1, 2))).run()

    with pytest.raises(ValueError, match="bad 2"):
        run.replay("each[1]/fail")
    assert run.inputs("each", 1) == {"n": 2}
    with pytest.raises(cf.RunError, match=r"Replay one of the steps that it added: .*each\[1\]/fail"):
        run.replay("each", 1)


def test_replay_of_what_another_run_has_done() -> None:
    wf = cf.workflow(lambda: double.map(give(1, 2, 3)), name="again")
    again = wf.run(reuse=wf.run())

    assert again.steps().reused.tolist() == [True, True]
    assert again.inputs("double", 1) == {"x": 2}
    assert again.replay("double", 2) == 6


def test_replay_of_a_run_in_this_process() -> None:
    def body() -> Any:
        return picky.map(double.map(give(1, 3)))

    run = cf.workflow(body).run(inline=True)

    assert run.inputs("picky") == {"x": 2}
    with pytest.raises(ValueError, match="no 2"):
        run.replay("picky")
    assert run.replay("picky", 1)[0] == 6


def test_another_kernel_replays(kernel: Any, runtime: Any) -> None:
    run = cf.workflow(lambda: double(give(1, 2))).run()

    answer = kernel(
        f"""
        found = cf.attach({run.id!r})
        answer = [found.inputs("double"), found.replay("double"), found.replay("double", function=lambda x: x[0])]
        """,
        runtime.directory,
        XDG_STATE_HOME=str(runtime.state),
    )

    assert answer == [{"x": [1, 2]}, [1, 2, 1, 2], 1]


# --- as_completed ----------------------------------------------------------------------------------------------------


@cf.step
def when(path: str) -> str:
    wait_until(Path(path).exists, timeout_s=60)
    return path[-1]


def test_items_come_as_they_arrive(tmp_path: Path) -> None:
    gates = [tmp_path / "a", tmp_path / "b"]
    run = cf.workflow(lambda: when.map([str(g) for g in gates])).submit()
    found = run.as_completed("when")

    gates[1].touch()
    assert next(found) == (1, "b")
    assert run.status == "running"
    gates[0].touch()

    assert list(found) == [(0, "a")]
    assert list(run.as_completed("when")) in ([(0, "a"), (1, "b")], [(1, "b"), (0, "a")])


def test_keys_of_a_dict_and_many_items_each_once() -> None:
    run = cf.workflow(lambda: (double.map({"a": 1, 2: 2}), double.map(range(3000)), double(5))).submit()

    assert dict(run.as_completed("double")) == {"a": 2, 2: 4}
    many = list(run.as_completed("double-2"))
    assert sorted(many) == [(i, 2 * i) for i in range(3000)]
    assert list(run.as_completed("double-3")) == [(None, 10)]


def test_the_others_come_before_the_error() -> None:
    run = cf.workflow(lambda: fails_on_odd.map(range(4))).submit()
    found = run.as_completed("fails_on_odd")
    seen = []

    with pytest.raises(cf.StepFailedError, match="2 of 4 items of step 'fails_on_odd' failed"):
        for key, value in found:
            seen.append((key, value))

    assert sorted(seen) == [(0, 0), (2, 2)]


@cf.step
def fails_on_odd(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


def test_failures_that_on_error_takes_in() -> None:
    def body() -> Any:
        return fails_on_odd.map(range(4), on_error="skip"), fails_on_odd.map(range(4), on_error="return")

    run = cf.workflow(body).submit()

    assert dict(run.as_completed("fails_on_odd")) == {0: 0, 2: 2}
    assert {key: repr(value) for key, value in run.as_completed("fails_on_odd-2")} == {
        0: "0", 1: "ValueError(1)", 2: "2", 3: "ValueError(3)"
    }  # fmt: skip


def test_why_no_more_will_come(tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    wf = cf.workflow(lambda: when.map([never]), name="stopped")
    run = wf.submit()
    threading.Timer(0.3, run.cancel, ["enough"]).start()

    with pytest.raises(cf.RunCancelledError, match="enough"):
        next(run.as_completed("when"))
    late = wf.options(deadline_s=0.5).submit()
    with pytest.raises(cf.RunTimeoutError, match="deadline_s"):
        next(late.as_completed("when"))
    with pytest.raises(cf.RunError, match=r"'double' .* is skipped"):
        next(cf.workflow(lambda: double(fail("luck"))).submit().as_completed("double"))
    with pytest.raises(cf.UnknownStepError):
        late.as_completed("wehn")


def test_async_iteration_lets_others_run(tmp_path: Path) -> None:
    gate = tmp_path / "a"

    async def all_of_them() -> Any:
        run = cf.workflow(lambda: when.map([str(gate)])).submit()
        asyncio.get_running_loop().call_later(0.2, gate.touch)
        return [pair async for pair in run.as_completed("when")]

    assert asyncio.run(all_of_them()) == [(0, "a")]


def test_items_that_a_resume_adds_come_too(tmp_path: Path) -> None:
    flag = tmp_path / "mended"

    @cf.step
    def work(x: int) -> int:
        if x % 2 and not flag.exists():
            raise ValueError(x)
        return x

    run = cf.workflow(lambda: work.map(range(6))).run()
    flag.touch()
    run.resume()

    assert sorted(run.as_completed("work")) == [(i, i) for i in range(6)]
    assert run.errors().empty


def test_items_of_a_run_in_this_process() -> None:
    run = works.run(1, inline=True)
    mapped = cf.workflow(lambda: double.map([1, 2])).run(inline=True)

    assert list(run.as_completed("double")) == [(None, 2)]
    assert list(mapped.as_completed("double")) == [(0, 2), (1, 4)]
