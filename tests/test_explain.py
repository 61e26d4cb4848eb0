"""``run.explain(step)``: what made a step run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook
from executions import Executions
from pipelines import PIPELINE

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.mark.parametrize(
    ("old", "new", "step", "expected"),
    [
        ("RATE = 0.1", "RATE = 0.2", "train", "- global 'RATE': 0.1 → 0.2"),
        ("RATE = 0.1", "RATE = 0.2", "report", "- step 'train', which it needs: global 'RATE': 0.1 → 0.2"),
        ("x * RATE", "RATE - x", "train", "- code of times() changed"),
        ("return max(x, least)", "return min(x, 9 + least)", "clean", "- code of clean() changed"),
        ("+ 1", "+ 2", "train", "- constant of train(): 1 → 2"),
        ("least=2", "least=1", "clean", "- default of 'least' of clean(): 2 → 1"),
        ("least=2", "least=1", "report", "- step 'train', which it needs, by way of 'clean': default of 'least'"),
        ("extract(n))), n)", "extract(n))), n + 1)", "report", "- argument 2: 4 → 5"),
        ("extract(n))), n)", "extract(n))), n + 1)", "train", "did not run: its results are those of run etl-"),
        ("clean.map(extract(n))", "clean.map(extract(n), least=3)", "clean", "- argument 'least': nothing → 3"),
        ("report(train(", "report(train.options(name='fit')(", "fit", "did not run"),
    ],
)  # fmt: skip
def test_explanations(cells: Notebook, old: str, new: str, step: str, expected: str) -> None:
    cells.cell(PIPELINE)
    before = cells["etl"].run()
    cells.cell(PIPELINE.replace(old, new))
    run = cells["etl"].run(reuse=before)

    found = cf.attach(run.id).explain(step)
    assert expected in found
    assert len(found.splitlines()) <= 2
    assert repr(found) == str(found) == found
    assert before.id in found


def test_explanations_of_failures_items_parts_and_first_runs(executions: Executions, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    @cf.step
    def work(x: int) -> int:
        if x == 3 and not mended.exists():
            raise ValueError("not three")
        return x

    inner = cf.workflow(lambda x: work(x) if x else work(0), name="inner")

    @cf.workflow
    def wf(xs: Any) -> Any:
        return work.map(xs), work(3), inner(work.options(name="first")(1))

    before = wf.run([1, 2, 3])
    mended.touch()
    run = wf.run([0, 1, 2, 3], reuse=before, check=True)

    assert before.explain("work").startswith("work ran from the beginning: the run takes over no other")
    text = run.explain("work")
    assert "work ran for 2 of 4 items" in text
    assert "1 of 4 items are new" in text and "1 of 4 items had no result before" in text
    assert "it failed before: ValueError: not three" in run.explain("work-2")
    assert "first did not run" in run.explain("first")
    assert before.explain("inner/work").startswith("inner/work is part of inner: inner ran from the beginning")
    with pytest.raises(cf.UnknownStepError, match="no step 'wrok'"):
        run.explain("wrok")
    assert "takes nothing over" in wf.run([1], inline=True).explain("work")
