"""``cf.monitor``: a run in a few plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from executions import wait_until

import celeryflow as cf


def give(value: Any) -> Any:
    return value


def fail(_: Any) -> None:
    raise ValueError("bad")


@cf.workflow
def etl(value: Any, clean: Any = give) -> Any:
    with cf.phase("extract"):
        raw = cf.step(give)(value)
    with cf.phase("clean"):
        tidy = cf.step(clean)(raw)
    with cf.phase("load"):
        return cf.step(give).options(name="load")(tidy)


def statuses(run: cf.Run[Any]) -> list[str]:
    return [phase["status"] for phase in cf.monitor(run)["phases"]]


def test_a_run_that_succeeded() -> None:
    assert cf.monitor(etl.run({"a": 1}, inline=True)) == {
        "phases": [{"phase": name, "status": "success", "result": {"a": 1}} for name in ("extract", "clean", "load")],
        "overall_progress": 1.0,
    }


def test_a_run_that_failed() -> None:
    found = cf.monitor(etl.run(1, fail, inline=True))

    assert found == {
        "phases": [
            {"phase": "extract", "status": "success", "result": 1},
            {"phase": "clean", "status": "failure", "result": None},
            {"phase": "load", "status": "skipped", "result": None},
        ],
        "overall_progress": 1.0,
    }


def test_what_a_branch_leaves_out_counts_as_over() -> None:
    def body() -> Any:
        with cf.phase("decide"):
            return cf.branch(1, (lambda v: v > 5, cf.step(give)), otherwise=cf.step(fail).options(name="other"))

    run = cf.workflow(body).run(inline=True)

    assert cf.monitor(run)["overall_progress"] == 1.0
    assert statuses(run) == ["failure"]


def test_a_run_without_phases_items_or_steps_of_a_phase() -> None:
    def body() -> Any:
        with cf.phase("nothing"):
            pass
        return cf.step(give).map([])

    assert cf.monitor(cf.workflow(body).run(inline=True)) == {
        "phases": [{"phase": "nothing", "status": "success", "result": None}],
        "overall_progress": 1.0,
    }
    assert cf.monitor(cf.workflow(lambda: cf.step(give)(1)).run(inline=True)) == {"phases": [], "overall_progress": 1.0}


@pytest.mark.usefixtures("runtime")
def test_a_run_that_goes_on(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def wait(value: Any) -> Any:
        wait_until(go.exists)
        return value

    run = etl.submit(1, wait)
    wait_until(lambda: statuses(run) == ["success", "running", "pending"])

    assert cf.monitor(run)["overall_progress"] == pytest.approx(1 / 3)
    go.touch()
    assert cf.monitor(run.wait())["overall_progress"] == 1.0


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(cf.ArgumentError, match="takes a Run"):
        cf.monitor("etl-1")  # type: ignore[arg-type]
