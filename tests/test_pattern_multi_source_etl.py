"""``multi_source_etl``: each source by itself up to the load, and a summary however it ends."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

TABLES = {"flights": [3, 1], "weather": [20, 10, 30], "planes": [], "torn": [1, None]}


def extract(source: str) -> list[Any]:
    return [*TABLES[source]]


def transform(rows: list[Any]) -> list[int]:
    return [row * 10 for row in rows]


def validate(rows: list[int]) -> list[int]:
    if not rows:
        raise ValueError("no rows")
    return rows


def load(datasets: list[list[int]]) -> dict[str, int]:
    return {"rows": sum(map(len, datasets))}


def notify(summary: dict[str, Any]) -> None:
    print(repr(summary))


def etl(**steps: Any) -> cf.Workflow[Any, Any]:
    return cf.patterns.multi_source_etl(**{"extract": extract, "load": load, "validate": validate, **steps})


def told(run: Any) -> dict[str, Any]:
    """What `notify` got last; it is called once a run, and once again by a resume."""
    lines = [line for line in run.logs().text if line.startswith("{'status'")]
    assert len(lines) == run.snapshot().generation
    return ast.literal_eval(lines[-1])  # type: ignore[no-any-return]


def test_every_step_has_its_part_and_its_phase() -> None:
    def total(datasets: list[list[int]]) -> list[int]:
        return [row for rows in datasets for row in rows]

    run = etl(
        transform=cf.step(transform),
        aggregate=total,
        load=lambda rows: {"rows": rows},
        verify=cf.workflow(lambda receipt: cf.step(len)(receipt["rows"])),
        notify=notify,
    ).run(["flights", "weather"])

    expected = {
        "receipt": {"rows": [30, 10, 200, 100, 300]},
        "verified": 5,
        "sources": {"flights": "success", "weather": "success"},
        "quarantined": {},
    }
    assert run.result() == expected
    assert told(run) == {"status": "success", "error": None, **expected}
    phases = ["extract", "transform", "validate", "aggregate", "load", "verify", "notify"]
    assert run.phases().phase.tolist() == phases
    assert set(run.phases().status) == {"success"}


def test_a_source_goes_on_while_another_is_still_being_extracted(tmp_path: Path) -> None:
    validated = tmp_path / "validated"

    def extract(source: str) -> str:
        if source == "slow":
            wait_until(validated.exists)
        return source

    def validate(source: str) -> str:
        if source == "quick":
            validated.touch()
        return source

    run = etl(extract=extract, transform=lambda data: data, validate=validate, load=lambda data: data)

    assert run.run(["slow", "quick"]).result()["receipt"] == ["slow", "quick"]


def test_a_source_is_extracted_once_though_later_steps_are_tried_again(executions: Executions) -> None:
    def extract(source: str) -> str:
        with executions.recorded():
            return source

    def flaky(data: Any) -> Any:
        with executions.recorded() as here:
            if here.attempt == 1:
                raise ConnectionError(here.step)
            return data

    again = {"retries": 1, "retry_delay_s": 0.0}
    steps = {name: cf.step(flaky, name=name, **again) for name in ("transform", "validate", "load")}
    run = etl(extract=extract, **steps).run(["a", "b"])

    assert run.result()["receipt"] == ["a", "b"]
    assert [len(executions.read(step)) for step in ("extract", "transform", "validate", "load")] == [2, 4, 4, 2]


# --- sources that fail -----------------------------------------------------------------------------

MIXED = ["flights", "missing", "torn", "planes"]
ERRORS = {
    "flights": "success",
    "missing": "KeyError: 'missing'",
    "torn": "TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'",
    "planes": "ValueError: no rows",
}


def test_a_source_that_fails_fails_the_run_once_the_others_are_done() -> None:
    run = etl(transform=transform, notify=notify).run(MIXED)

    assert isinstance(failure_of(run).__cause__, KeyError)
    assert (run.items("validate").status == "success").tolist() == [True, False, False, False]
    assert run.steps().set_index("step").status["load"] == "skipped"
    expected = {"status": "failure", "error": "missing: KeyError: 'missing'", "receipt": None, "verified": None}
    assert told(run) == {**expected, "sources": ERRORS, "quarantined": {}}


@pytest.mark.parametrize(
    ("choice", "kept"), [("drop", {}), ("quarantine", {"missing": None, "torn": [1, None], "planes": []})]
)
def test_a_source_that_fails_is_left_out(choice: str, kept: dict[str, Any]) -> None:
    run = etl(transform=transform, on_source_error=choice).run(MIXED, inline=True)

    assert run.result() == {"receipt": {"rows": 2}, "verified": None, "sources": ERRORS, "quarantined": kept}
    assert run.status == "success"
    assert run.errors().step.tolist() == ["extract", "transform", "validate"]


@pytest.mark.parametrize("choice", ["drop", "quarantine"])
def test_where_no_source_is_left_nothing_is_loaded(choice: str) -> None:
    run = etl(on_source_error=choice, notify=notify).run(["missing", "planes"])

    error = failure_of(run).__cause__
    assert isinstance(error, cf.TooFewResultsError)
    assert "missing: KeyError: 'missing'; planes: ValueError: no rows" in str(error)
    assert run.steps().set_index("step").status["load"] == "skipped"
    assert told(run)["status"] == "failure"


@pytest.mark.parametrize("broken", ["aggregate", "load", "verify"])
def test_the_summary_says_what_failed_after_the_sources(broken: str) -> None:
    def fail(_: Any) -> None:
        raise OSError("disk full")

    run = etl(**{"aggregate": sorted, "notify": notify, broken: fail}).run(["flights"])

    assert isinstance(failure_of(run).__cause__, OSError)
    summary = told(run)
    assert (summary["status"], summary["error"]) == ("failure", "OSError: disk full")
    assert summary["receipt"] == ({"rows": 2} if broken == "verify" else None)
    assert summary["sources"] == {"flights": "success"}


# --- what sources are ------------------------------------------------------------------------------


def test_no_sources_are_loaded_as_nothing() -> None:
    for choice in ("fail", "drop"):
        found = etl(transform=transform, on_source_error=choice).run([], inline=True).result()
        assert found == {"receipt": {"rows": 0}, "verified": None, "sources": {}, "quarantined": {}}


def test_sources_may_have_names() -> None:
    run = etl(load=lambda data: data, on_source_error="drop").run({"a": "flights", "b": "planes"}, inline=True)

    assert run.result()["receipt"] == {"a": [3, 1]}
    assert run.result()["sources"] == {"a": "success", "b": "ValueError: no rows"}


def test_sources_need_not_be_hashable() -> None:
    run = etl(extract=lambda source: source["rows"]).run(({"rows": [1]}, ["rows"]), inline=True)

    assert run.status == "failure"
    run = etl(extract=lambda source: source["rows"]).run(({"rows": [1]}, {"rows": [2]}), inline=True)
    assert run.result()["sources"] == {"{'rows': [1]}": "success", "{'rows': [2]}": "success"}


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        (["a", "b", "a"], cf.DuplicateNameError, "the source 'a' more than once"),
        ([[1], [1]], cf.DuplicateNameError, r"the source '\[1\]' more than once"),
        ("flights", cf.ArgumentError, "sources of multi_source_etl must be a list, not str: 'flights'"),
        ({"a", "b"}, cf.ArgumentError, "must be a list, not set"),
        (None, cf.ArgumentError, "must be a list, not NoneType"),
    ],
)
def test_sources_that_cannot_be_are_refused(
    nothing_is_written: None, sources: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        etl().run(sources)


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (
            {"extract": 3},
            cf.ArgumentError,
            "extract= of multi_source_etl takes a function, a step or a workflow, not 3",
        ),
        ({"notify": "me"}, cf.ArgumentError, "notify= of multi_source_etl"),
        ({"on_source_error": "ignore"}, cf.InvalidOptionError, "one of 'fail', 'drop', 'quarantine', not 'ignore'"),
        ({"on_source_error": ["fail"]}, cf.InvalidOptionError, "on_source_error"),
        ({"on_error": "fail"}, TypeError, "on_error"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(steps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        etl(**steps)


# --- as a workflow ---------------------------------------------------------------------------------


def test_it_is_part_of_other_workflows() -> None:
    single = etl(transform=transform)
    named = cf.step(lambda: ["flights", "weather"], name="named")

    both = cf.workflow(lambda: (single(["flights"])["receipt"], single(named())["receipt"])).run(inline=True)

    assert both.result() == ({"rows": 2}, {"rows": 5})
    refs = cf.workflow(lambda: single([named()[1]])["sources"]).run(inline=True)
    assert refs.result() == {"weather": "success"}
    assert single(["flights"])["sources"] == {"flights": "success"}


def half_broken(mended: Path) -> Callable[[str], str]:
    def extract(source: str) -> str:
        if source == "b" and not mended.exists():
            raise ConnectionError("down")
        return source

    return extract


def test_a_source_that_was_dropped_is_asked_again_by_the_workflows_resume(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    dropping = etl(extract=half_broken(mended), on_source_error="drop")
    first = dropping.run(["a", "b"])
    mended.touch()

    run = dropping.resume(first)

    assert (first.result()["receipt"], run.result()["receipt"]) == ({"rows": 1}, {"rows": 2})
    assert run.result()["sources"] == {"a": "success", "b": "success"}
    assert run.items("extract").attempts.tolist() == [0, 1]


def test_a_resume_tells_of_the_success_then(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    run = etl(extract=half_broken(mended), notify=cf.step(notify).options(name="mail")).run(["a", "b"])
    assert told(run)["sources"] == {"a": "success", "b": "ConnectionError: down"}
    mended.touch()

    expected = {
        "receipt": {"rows": 2},
        "verified": None,
        "sources": {"a": "success", "b": "success"},
        "quarantined": {},
    }
    assert run.resume().result() == expected
    assert told(run) == {"status": "success", "error": None, **expected}
    assert run.items("extract").attempts.tolist() == [1, 2]
