"""``@cf.step(cache=True)``: results of whatever run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook
from executions import Executions

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")


def test_cached_steps_take_results_of_any_run(ran: Any, executions: Executions) -> None:
    @cf.step(cache=True)
    def costly(x: int, y: int = 0) -> int:
        with executions.recorded():
            return x * 100 + y

    @cf.step
    def cheap(x: Any) -> Any:
        with executions.recorded():
            return x

    cf.workflow(lambda: costly(1), name="one").run(check=True)
    assert ran() == {"costly": 1}
    other = cf.workflow(lambda: cheap(costly.options(name="again")(1)), name="two").run(check=True)
    assert (other.result(), ran()) == (100, {"cheap": 1})
    assert "no earlier run" not in other.explain("again")
    assert "are those of run one-" in other.explain("again")
    run = cf.workflow(lambda: cheap(costly.map([1, 2])), name="three").run(check=True)
    assert (run.result(), ran()) == ([100, 200], {("costly", 0): 1, ("costly", 1): 1, "cheap": 1})
    for xs, fresh in [([1, 2, 3], [2]), ([4, 3], [0]), ([5, 4, 1, 2, 3], [0])]:
        run = cf.workflow(lambda xs: cheap(costly.map(xs)), name="four").run(xs, check=True)
        assert run.result() == [100 * x for x in xs]
        assert ran() == {"cheap": 1, **{("costly", i): 1 for i in fresh}}
    cf.map(costly, [5, 6]).wait()
    assert ran() == {("costly", 1): 1}


def test_a_cached_step_goes_by_its_code_and_what_it_needs(cells: Notebook, ran: Any) -> None:
    source = """
        @cf.step
        def give():
            with executions.recorded():
                return 5

        @cf.step(cache=True)
        def costly(x):
            with executions.recorded():
                return x * 2

        @cf.workflow
        def wf():
            return costly(give())
    """
    cells.cell(source)
    cells["wf"].run(check=True)
    ran()
    assert cells["wf"].run(check=True).result() == 10
    assert ran() == {"give": 1}
    cells.cell(source.replace("return 5", "return 6"))
    assert cells["wf"].run(check=True).result() == 12
    assert ran() == {"give": 1, "costly": 1}
    cells.cell(source.replace("x * 2", "x * 3"))
    assert cells["wf"].run(check=True).result() == 15
    assert ran() == {"give": 1, "costly": 1}
    cells.cell(source)
    assert cells["wf"].run(check=True).result() == 10
    assert ran() == {"give": 1}


def test_failures_are_not_cached_and_inline_does_not_cache(ran: Any, executions: Executions, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    @cf.step(cache=True)
    def costly() -> int:
        with executions.recorded():
            if not mended.exists():
                raise ValueError("no")
            return 1

    wf = cf.workflow(lambda: costly(), name="cached")
    assert wf.run().status == "failure"
    mended.touch()
    assert wf.run().result() == 1
    assert wf.run().result() == 1
    assert ran() == {"costly": 2}
    assert wf.run(inline=True).result() == 1
    assert ran() == {"costly": 1}


def test_a_cached_result_is_there_as_long_as_a_run_that_has_it(ran: Any, executions: Executions) -> None:
    @cf.step(cache=True)
    def costly() -> int:
        with executions.recorded():
            return 1

    def forget(run: cf.Run[Any]) -> None:
        store = current().link.store
        store.client.delete(*store.client.scan_iter(f"{store.keys.run(run.id, '*')}", count=10_000))
        store.client.zrem(store.keys.runs, run.id)

    wf = cf.workflow(lambda: costly(), name="expiring")
    first, second = wf.run(), wf.run()
    forget(first)
    third = wf.run()
    assert ran() == {"costly": 1}
    forget(second)
    forget(third)
    assert wf.run().result() == 1
    assert ran() == {"costly": 1}
