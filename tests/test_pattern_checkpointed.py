"""``checkpointed``: four phases that a job goes through once, whatever happens to its runs."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook

import celeryflow as cf
from celeryflow.patterns import checkpointed

pytestmark = pytest.mark.usefixtures("runtime")

_numbers = itertools.count()

STEPS = ("split", "process_chunk", "merge", "transform", "validate", "enrich_item", "aggregate", "finalize")

SOURCE = """
    from pathlib import Path

    def fail_unless(path):
        if not Path(path).exists():
            raise ConnectionError("the service is down")

    def split(data):
        with executions.recorded():
            return [data[i : i + 2] for i in range(0, len(data), 2)]

    def process_chunk(chunk):
        with executions.recorded():
            if 5 in chunk:
                fail_unless(chunks_are_up)
            return sum(chunk)

    def merge(sums):
        with executions.recorded():
            return sums

    def transform(sums):
        with executions.recorded():
            return [10 * s for s in sums]

    def validate(rows):
        with executions.recorded():
            if min(rows, default=0) < 0:
                raise ValueError("below zero")
            return rows

    def enrich_item(row):
        with executions.recorded():
            if row == 50:
                fail_unless(items_are_up)
            return row + 1

    def aggregate(rows):
        with executions.recorded():
            return sum(rows)

    def finalize(total):
        with executions.recorded():
            return {"total": total}

    steps = (split, process_chunk, merge, transform, validate, enrich_item, aggregate, finalize)
    nightly = cf.patterns.checkpointed(**{step.__name__: step for step in steps})
    """

ALL = {"split": 1, "merge": 1, "transform": 1, "validate": 1, "aggregate": 1, "finalize": 1}


@pytest.fixture
def up(cells: Notebook, tmp_path: Path) -> tuple[Path, Path]:
    """The services that `process_chunk` and `enrich_item` need are up while these files are there."""
    paths = tmp_path / "chunks", tmp_path / "items"
    cells.namespace |= {"chunks_are_up": str(paths[0]), "items_are_up": str(paths[1])}
    return paths


@pytest.fixture
def job() -> str:
    return f"nightly-{next(_numbers)}"


def run(cells: Notebook, job: str, size: int = 8, source: str = SOURCE) -> cf.Run[Any]:
    """The job as a kernel runs it that has just defined the steps."""
    cells.cell(source)
    return cells["nightly"].options(job_id=job).run([*range(size)])  # type: ignore[no-any-return]


def items(step: str, *indices: int) -> dict[Any, int]:
    return {(step, index): 1 for index in indices}


def test_one_job_id_goes_on_from_the_last_phase_and_the_last_item(
    cells: Notebook, up: tuple[Path, Path], ran: Callable[[], Counter[Any]], job: str
) -> None:
    first = run(cells, job)
    assert (first.status, ran()) == ("failure", {"split": 1} | items("process_chunk", 0, 1, 2, 3))
    assert first.phases().status.tolist() == ["failure", "skipped", "skipped", "skipped"]

    up[0].touch()
    second = run(cells, job)
    done = {"merge": 1, "transform": 1, "validate": 1} | items("process_chunk", 2) | items("enrich_item", 0, 1, 2, 3)
    assert (second.status, second.id, ran()) == ("failure", first.id, done)

    up[1].touch()
    third = run(cells, job)
    assert (third.result(), third.id) == ({"total": 284}, first.id)
    assert ran() == {"aggregate": 1, "finalize": 1} | items("enrich_item", 1)
    phases = third.phases()
    assert phases.phase.tolist() == ["process", "transform", "enrich", "finalize"]
    assert phases.progress.tolist() == [1.0] * 4
    assert phases.done.tolist() == [6, 2, 5, 1]

    fourth = run(cells, job)
    assert (fourth.id, fourth.result(), ran()) == (first.id, {"total": 284}, {})


def test_what_changed_runs_again_from_there_on_and_says_why(
    cells: Notebook, up: tuple[Path, Path], ran: Callable[[], Counter[Any]], job: str
) -> None:
    for path in up:
        path.touch()
    first = run(cells, job)
    ran()

    changed = SOURCE.replace("10 * s", "100 * s")
    second = run(cells, job, source=changed)
    assert second.result() == {"total": 2804}
    after = {"transform": 1, "validate": 1, "aggregate": 1, "finalize": 1} | items("enrich_item", 0, 1, 2, 3)
    assert (second.id != first.id, ran()) == (True, after)
    assert second.explain("transform").reasons == (("constant of transform()", "10", "100"),)
    assert "constant of transform()" in second.explain("aggregate")
    assert "process_chunk did not run" in second.explain("process_chunk")

    third = run(cells, job, size=2, source=changed)
    assert (third.result(), third.id != second.id) == ({"total": 101}, True)
    assert ran() == ALL | items("process_chunk", 0) | items("enrich_item", 0)
    assert third.explain("split").reasons[0].what == "argument 1"
    assert "step 'split', which it needs: argument 1" in third.explain("process_chunk")


def test_two_callers_share_one_run(
    cells: Notebook, up: tuple[Path, Path], ran: Callable[[], Counter[Any]], job: str
) -> None:
    for path in up:
        path.touch()
    found: list[cf.Run[Any]] = []
    cells.cell(SOURCE)
    wf = cells["nightly"].options(job_id=job)
    threads = [threading.Thread(target=lambda: found.append(wf.submit([*range(4)]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({run.id for run in found}) == 1
    assert [run.result() for run in found] == [{"total": 62}] * 3
    assert ran() == ALL | items("process_chunk", 0, 1) | items("enrich_item", 0, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [1, 5]),
        ({"transform": lambda sums: [-s for s in sums]}, [-1, -5]),
        ({"enrich_item": lambda s: s + 1}, [2, 6]),
        ({"aggregate": sum}, 6),
        ({"finalize": len}, 2),
    ],
)
def test_optional_steps_are_passed_over_and_all_four_phases_are_listed(given: dict[str, Any], expected: Any) -> None:
    wf = checkpointed(split=lambda d: [d[:2], d[2:]], process_chunk=sum, merge=list, **given)
    run = wf.run([0, 1, 2, 3])

    assert run.result() == expected == wf([0, 1, 2, 3])
    assert run.phases().phase.tolist() == ["process", "transform", "enrich", "finalize"]
    assert run.phases().progress.tolist() == [1.0] * 4
    assert set(run.phases().status) == {"success"}


def test_nothing_to_process_goes_through_every_phase() -> None:
    wf = checkpointed(split=lambda d: d, process_chunk=abs, merge=sorted, enrich_item=abs, aggregate=sum, finalize=str)

    run = wf.run([])

    assert (run.result(), run.status) == ("0", "success")


def test_the_last_phase_that_failed_is_the_only_one_to_run_again(
    cells: Notebook, up: tuple[Path, Path], ran: Callable[[], Counter[Any]], job: str
) -> None:
    """A mended step keeps what came before it, though the code is another one."""
    for path in up:
        path.touch()
    broken = SOURCE.replace('return {"total": total}', "return {total: 1 / 0}")
    assert run(cells, job, 4, broken).status == "failure"
    ran()

    mended = run(cells, job, 4)

    assert (mended.result(), ran()) == ({"total": 62}, {"finalize": 1})
    assert "code of finalize()" in mended.explain("finalize")


def test_what_is_no_function_is_refused_by_name() -> None:
    good: dict[str, Any] = {"split": list, "process_chunk": abs, "merge": sum}
    for name in STEPS:
        with pytest.raises(cf.ArgumentError, match=f"{name}= of checkpointed takes"):
            checkpointed(**{**good, name: 3})
