"""``ab_test``: a comparison as a workflow, with what it measured and what it recommends."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

import celeryflow as cf
from celeryflow.patterns import ab_test

pytestmark = pytest.mark.usefixtures("runtime")

_numbers = itertools.count()

ITEMS = [n / 4 for n in range(24)]


def rounded(x: float) -> int:
    return int(x + 0.5)


def floored(x: float) -> int:
    return int(x)


def accuracy(output: int, truth: int) -> float:
    return float(output == truth)


def truth(x: float) -> int:
    return int(x + 0.5)


def test_it_measures_and_recommends() -> None:
    wf = ab_test({"rounded": rounded, "floored": floored}, metrics={"accuracy": accuracy}, truth=truth, seed=3)
    run = wf.run(ITEMS)
    report = run.result()
    summary = report.summary().set_index("algorithm")

    assert isinstance(wf, cf.Workflow)
    assert run.status == "success"
    assert run.phases().phase.tolist() == ["trials", "report"]
    assert summary.accuracy_mean.to_dict() == {"rounded": 1.0, "floored": 0.5}
    assert (summary[["latency_p50_s", "latency_p95_s", "throughput_per_s"]] > 0).all().all()
    assert (report.winner, summary.recommended.to_dict()) == ("rounded", {"rounded": True, "floored": False})
    assert "rounded" in report.recommendation
    assert len(report.trials()) == 2 * len(ITEMS)
    assert (report.trials().queue_wait_s.dropna() >= 0).all()


def test_the_same_test_runs_on_other_data_and_is_one_job() -> None:
    wf = ab_test({"rounded": rounded, "floored": floored}, metrics={"accuracy": accuracy}, truth=truth)
    job = wf.options(job_id=f"ab-{next(_numbers)}")
    first = job.run(ITEMS[:8])

    assert job.run(ITEMS[:8]).id == first.id
    assert job.run(ITEMS[:10]).id != first.id
    assert len(wf.run(ITEMS[:6]).result().trials()) == 12


def test_it_may_stop_when_the_answer_is_there() -> None:
    wf = ab_test({"rounded": rounded, "floored": floored}, metrics={"accuracy": accuracy}, truth=truth, sequential=True)
    items = [n / 2 for n in range(1, 121)]
    job = wf.options(job_id=f"ab-{next(_numbers)}")
    run = job.run(items)
    report = run.result()

    assert report.winner == "rounded"
    assert len(report.trials()) < 120
    assert f"saved {240 - len(report.trials())} of 240 trials" in report.recommendation
    assert run.phases().phase.tolist() == ["trials", "report"]
    assert job.run(items).id == run.id
    here = cf.compare(
        {"rounded": rounded, "floored": floored}, items, {"accuracy": accuracy}, truth, sequential=True, inline=True
    )
    assert len(here.trials()) == len(report.trials())


def test_an_algorithm_that_fails_loses_rows_and_not_the_comparison() -> None:
    def broken(x: float) -> int:
        raise ValueError("no")

    run = ab_test({"a": rounded, "b": broken}, metrics={"accuracy": accuracy}, truth=truth).run(ITEMS[:6])

    with pytest.warns(cf.ComparisonWarning):
        summary = run.result().summary().set_index("algorithm")
    assert (run.status, summary.failures.to_dict()) == ("success", {"a": 0, "b": 6})


def test_latency_is_measured() -> None:
    def slow(x: float) -> int:
        time.sleep(0.02)
        return floored(x)

    found = ab_test({"a": rounded, "slow": slow}, metrics={"accuracy": accuracy}, truth=truth).run(ITEMS[:8]).result()

    assert found.summary().set_index("algorithm").latency_p50_s["slow"] >= 0.02


GOOD: dict[str, Any] = {"algorithms": {"a": rounded, "b": floored}, "metrics": {"accuracy": accuracy}, "truth": truth}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithms": {"a": rounded}}, "algorithms="),
        ({"metrics": {}}, "metrics="),
        ({"alpha": -1}, "alpha="),
        ({"design": "both"}, "design="),
        ({"sed": 1}, "ab_test has no option 'sed'. Did you mean 'seed'"),
        ({"inline": True}, "ab_test has no option 'inline'"),
        ({"sequential": 1}, "sequential="),
        ({"sequential": True, "design": "split"}, "sequential="),
        ({"data": [1]}, "ab_test has no option 'data'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(wrong: dict[str, Any], message: str) -> None:
    given = {**GOOD, **wrong}
    with pytest.raises(ValueError, match=message):
        ab_test(given.pop("algorithms"), **given)


def test_data_that_cannot_be_compared_is_refused_before_anything_runs(nothing_is_written: None) -> None:
    with pytest.raises(cf.ComparisonError, match="data="):
        ab_test(GOOD["algorithms"], metrics=GOOD["metrics"], truth=truth).submit([])
