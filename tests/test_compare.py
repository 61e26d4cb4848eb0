"""``cf.compare``: trials here and on workers, their frames, and the verdicts that come of them."""

import functools
import pickle
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Runtime
from executions import Executions

import celeryflow as cf
from celeryflow.compare.comparison import comparison
from celeryflow.compare.report import Report

TRIALS = [
    *("item", "repeat", "algorithm", "block", "order", "score", "latency_s", "queue_wait_s", "peak_memory_bytes"),
    *("status", "error"),
]
SUMMARY = [
    *("algorithm", "n", "failures", "score_mean", "score_ci_low", "score_ci_high", "score_rank", "latency_p50_s"),
    *("latency_p95_s", "throughput_per_s", "recommended"),
]
PAIRWISE = [
    *("metric", "a", "b", "n_pairs", "estimand", "difference", "ci_low", "ci_high", "effect_name", "effect_size"),
    *("effect_low", "effect_high", "p_value", "p_adjusted", "test", "verdict"),
]
OMNIBUS = ["metric", "test", "statistic", "p_value", "n_items", "n_algorithms"]

ITEMS = [float(x) for x in np.random.default_rng(0).normal(10.0, 1.0, 12)]


def same(x: float) -> float:
    return x


def more(x: float) -> float:
    return x + 1.0 + 0.1 * np.sin(x)


def score(output: float, item: Any) -> float:
    return float(output)


def most(x: float) -> float:
    return x + 2.0 + 0.1 * np.cos(3 * x)


TWO = {"same": same, "more": more}
THREE = {**TWO, "most": most}


def here(algorithms: Any = None, data: Any = None, metrics: Any = None, **options: Any) -> Report:
    return cf.compare(
        TWO if algorithms is None else algorithms,
        ITEMS if data is None else data,
        {"score": score} if metrics is None else metrics,
        inline=True,
        **options,
    )


# --- what the frames are ---------------------------------------------------------------------


def test_the_frames_have_their_columns() -> None:
    report = here(THREE, repeats=2)
    assert list(report.trials().columns) == TRIALS
    assert list(report.summary().columns) == SUMMARY
    assert list(report.pairwise().columns) == PAIRWISE
    assert list(report.omnibus().columns) == OMNIBUS
    assert [len(f()) for f in (report.trials, report.summary, report.pairwise, report.omnibus)] == [72, 3, 3, 1]
    assert report.winner == "most"
    assert report.summary().set_index("algorithm")["recommended"].to_dict() == {
        "same": False,
        "more": False,
        "most": True,
    }


def test_frames_of_failures_alone_have_the_same_columns_and_types() -> None:
    def fail(x: float) -> float:
        raise ValueError(f"not {x}")

    with pytest.warns(cf.ComparisonWarning, match="there is no item that both have"):
        report = here({"a": fail, "b": fail})
    known = here()
    for frame in ("trials", "summary", "pairwise", "omnibus"):
        found, usual = getattr(report, frame)(), getattr(known, frame)()
        assert found.dtypes.to_dict() == usual.dtypes.to_dict(), frame
    assert report.winner is None
    assert report.pairwise()["verdict"].tolist() == ["inconclusive"]
    assert report.summary()["failures"].tolist() == [12, 12]


def test_differences_are_a_minus_b_and_ranks_begin_with_the_best() -> None:
    report = here(lower_is_better=["score"])
    (row,) = report.pairwise().to_dict("records")
    assert (row["a"], row["b"], row["n_pairs"], row["verdict"]) == ("same", "more", 12, "better")
    assert row["ci_low"] < row["difference"] < row["ci_high"] < 0 < row["effect_size"]
    assert report.summary()["score_rank"].tolist() == [1.0, 2.0]
    assert report.winner == "same"
    assert "Use same" in report.recommendation
    assert "paired t, 12 pairs" in report.recommendation


# --- the design ------------------------------------------------------------------------------


def test_every_algorithm_sees_every_item_in_blocks_of_random_order() -> None:
    trials = here(THREE).trials()
    assert trials["order"].tolist() == list(range(36))
    blocks = trials.groupby("block")
    assert blocks["item"].nunique().eq(1).all()
    assert blocks["algorithm"].apply(set).map(len).eq(3).all()
    assert blocks["algorithm"].apply(tuple).nunique() > 2
    assert trials["item"].drop_duplicates().tolist() != sorted(trials["item"].unique())


def test_split_items_are_dealt_out_and_strata_evenly() -> None:
    strata = ["x"] * 6 + ["y"] * 6
    with pytest.warns(cf.ComparisonWarning, match="4 and 4 items only"):
        trials = here(THREE, design="split", stratify=strata, estimand="median").trials()
    assert sorted(trials["item"]) == list(range(12))
    counts = trials.assign(stratum=[strata[item] for item in trials["item"]]).groupby(["algorithm", "stratum"]).size()
    assert counts.tolist() == [2] * 6
    assert trials.groupby("block")["algorithm"].nunique().eq(3).all()


def test_repeats_are_averaged_within_an_item() -> None:
    report = here({"a": lambda x: x + random.random(), "b": lambda x: x + random.random() / 2}, repeats=5)
    assert report.pairwise()["n_pairs"].tolist() == [12]
    means = report.trials().groupby(["algorithm", "item"])["score"].mean().groupby("algorithm").mean()
    assert report.summary()["score_mean"].tolist() == pytest.approx(means[["a", "b"]].tolist())


def test_one_seed_gives_one_and_the_same_trials() -> None:
    noisy = {"a": lambda x: x + np.random.normal(), "b": lambda x: x + random.random()}
    compared = ["item", "repeat", "algorithm", "block", "order", "score"]
    first, again, other = (here(noisy, repeats=2, seed=seed).trials()[compared] for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_the_generators_of_the_process_are_left_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)
    known = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    here({"a": lambda x: x + np.random.normal(), "b": lambda x: x + random.random()})
    assert (random.random(), np.random.random()) == known


def test_max_trials_takes_whole_blocks() -> None:
    trials = here(THREE, max_trials=20).trials()
    assert len(trials) == 18
    assert trials["item"].nunique() == 6


def test_items_come_from_frames_groups_and_seeds() -> None:
    frame = pd.DataFrame({"g": list("aabbccddeeff"), "x": ITEMS}, index=[f"r{i}" for i in range(12)])
    rows = here({"a": lambda r: r["x"], "b": lambda r: r.x + 1 + r["x"] / 99}, frame)
    assert set(rows.trials()["item"]) == set(frame.index)
    groups = here({"a": lambda g: g["x"].sum(), "b": lambda g: g["x"].max()}, frame.groupby("g"))
    assert set(groups.trials()["item"]) == set("abcdef")
    made = here(TWO, lambda seed: np.random.default_rng(seed).normal(), seed=7, max_trials=20)
    assert sorted(made.trials()["item"].unique()) == list(range(7, 17))
    assert here(TWO, lambda seed: float(seed) ** 0.5).summary()["n"].tolist() == [30, 30]


def test_truth_is_a_sequence_or_a_function_of_the_item() -> None:
    def off(output: float, truth: float) -> float:
        return output - truth

    def y_true_first(y_true: float, y_pred: float) -> float:
        return y_true - y_pred

    truths = [2.0 * x for x in ITEMS]
    for truth in (truths, np.array(truths), lambda x: 2.0 * x):
        report = here(metrics={"off": off, "skl": y_true_first}, truth=truth)
        trials = report.trials().query("algorithm == 'same'").sort_values("item")
        assert trials["off"].tolist() == pytest.approx([-x for x in ITEMS])
        assert trials["skl"].tolist() == pytest.approx(ITEMS)


def test_an_algorithm_may_change_its_item_and_nobody_else_sees_it() -> None:
    def clear(items: list[float]) -> float:
        total = sum(items)
        items.clear()
        return total

    report = here(
        {"a": clear, "b": lambda xs: sum(xs) * 2}, [[x, x] for x in ITEMS], {"score": lambda out, xs: out - sum(xs)},
        repeats=2,
    )  # fmt: skip
    assert report.trials().query("algorithm == 'a'")["score"].tolist() == [0.0] * 24


def test_warm_up_calls_are_not_trials() -> None:
    calls: list[str] = []
    algorithms = {name: lambda x, name=name: calls.append(name) or x + len(name) * x for name in ("a", "bb")}
    here(algorithms, warmup=3)
    assert [calls.count(name) for name in ("a", "bb")] == [15, 15]
    calls.clear()
    here(algorithms, warmup=0)
    assert [calls.count(name) for name in ("a", "bb")] == [12, 12]


# --- what is measured ------------------------------------------------------------------------


def test_latency_is_the_call_alone() -> None:
    def slow_metric(output: float, item: float) -> float:
        time.sleep(0.02)
        return output

    report = here({"a": lambda x: time.sleep(0.01) or x, "b": lambda x: x * 2}, metrics={"score": slow_metric})
    slow, quick = report.summary().to_dict("records")
    assert 0.01 <= slow["latency_p50_s"] <= slow["latency_p95_s"]
    assert quick["latency_p50_s"] < 0.01
    assert slow["throughput_per_s"] <= 100 < quick["throughput_per_s"]
    assert (report.trials()["queue_wait_s"] == 0).all()


def test_peak_memory_is_above_what_was_held_before_and_again_each_time() -> None:
    def allocate(x: float, mib: int) -> float:
        return x + float(np.ones(mib * 2**17).sum()) * 0

    algorithms = {"20": functools.partial(allocate, mib=20), "60": functools.partial(allocate, mib=60)}
    for mib in (31, 30):  # of which the C library keeps the second at hand
        allocate(0.0, mib)
    with pytest.warns(cf.ComparisonWarning):
        peaks = here(algorithms).trials().groupby("algorithm")["peak_memory_bytes"]
    for name, peak in peaks:
        if Path("/proc/self/clear_refs").exists():
            # Of most: a machine that is short of memory takes some of what was held before, or gives it back.
            assert 0.9 * int(name) * 2**20 <= peak.quantile(0.25) <= peak.quantile(0.75) <= 1.5 * int(name) * 2**20
        else:
            assert peak.isna().all()


# --- failures --------------------------------------------------------------------------------


def fails_for_some(x: float) -> float:
    if x > 10.5:
        raise ValueError(f"{x} is too much")
    return x + 0.5 + 0.01 * x


def test_a_trial_that_raises_is_a_row_and_pairs_are_complete() -> None:
    report = here({"same": same, "fails": fails_for_some})
    failed = sum(x > 10.5 for x in ITEMS)
    rows = report.trials().query("status == 'failure'")
    assert len(rows) == failed > 0
    assert rows["error"].str.match(r"ValueError: .* is too much").all()
    assert rows["latency_s"].isna().all()
    assert report.pairwise()["n_pairs"].tolist() == [12 - failed]
    assert report.summary()["failures"].tolist() == [0, failed]
    assert f"fails failed in {failed} of 12 trials" in report.recommendation


def test_who_fails_too_often_wins_only_with_the_worst_score_for_each_failure() -> None:
    algorithms = {"same": same, "fails": fails_for_some}
    assert here(algorithms).winner is None
    assert "failed (max_failure_rate=0)" in here(algorithms).recommendation
    assert here(algorithms, max_failure_rate=0.5).winner == "fails"

    def fails_once(x: float) -> float:
        if x == max(ITEMS):
            raise ValueError
        return x + 50 + 0.01 * x**2

    assert here({"same": same, "fails": fails_once}).winner == "fails"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "7", [1.0, 2.0]])
def test_a_score_that_is_no_finite_number_is_a_failure_of_that_metric(value: Any) -> None:
    def odd(output: float, item: float) -> Any:
        return value if item == ITEMS[1] else output

    report = here(metrics={"score": score, "odd": odd})
    assert report.summary()["failures"].tolist() == [1, 1]
    assert report.pairwise()["n_pairs"].tolist() == [12, 11]
    assert report.trials().query("status == 'failure'")["error"].str.startswith("metric 'odd'").all()


def test_a_call_that_takes_too_long_is_stopped_here() -> None:
    started = time.monotonic()
    report = here({"a": same, "b": lambda x: time.sleep(30 if x == ITEMS[0] else 0) or x * 2}, timeout_s=0.2)
    assert time.monotonic() - started < 20
    (row,) = report.trials().query("algorithm == 'b' and item == 0").to_dict("records")
    assert row["error"] == "StepTimeoutError: took longer than timeout_s=0.2"


# --- few and equal values --------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["mean", "median"])
@pytest.mark.parametrize("design", ["paired", "split"])
@pytest.mark.parametrize("count", [2, 5])
def test_few_items_are_warned_of_and_decide_nothing_alone(estimand: str, design: str, count: int) -> None:
    with pytest.warns(cf.ComparisonWarning):
        report = here(data=ITEMS[:count], estimand=estimand, design=design)
    assert report.pairwise()["verdict"].isin(["better", "worse", "inconclusive"]).all()
    assert "Note:" in report.recommendation


def test_one_item_decides_nothing() -> None:
    with pytest.warns(cf.ComparisonWarning, match="one item is no sample"):
        report = here(data=[1.0])
    assert report.winner is None
    assert report.pairwise()["p_value"].tolist() == [1.0]


def test_equal_scores_are_no_difference() -> None:
    with pytest.warns(cf.ComparisonWarning, match="do not vary"):
        report = here({"a": same, "b": same, "c": same})
    assert report.winner is None
    assert report.pairwise()["p_adjusted"].tolist() == [1.0] * 3
    assert report.omnibus()["p_value"].tolist() == [1.0]
    with pytest.warns(cf.ComparisonWarning):
        assert set(here({"a": same, "b": same}, rope=0.1).pairwise()["verdict"]) == {"equivalent"}


@pytest.mark.parametrize("design", ["paired", "split"])
@pytest.mark.parametrize("estimand", ["mean", "median"])
@pytest.mark.parametrize("unit", [2.0**1000, 2.0**-1040])
def test_scores_of_any_size_are_judged_alike(design: str, estimand: str, unit: float) -> None:
    options: dict[str, Any] = {"design": design, "estimand": estimand, "data": ITEMS * 2}
    usual = here(**options)
    report = here(metrics={"score": lambda output, item: output * unit}, **options)
    same = ["p_value", "p_adjusted", "effect_size", "test", "verdict"]
    pd.testing.assert_frame_equal(report.pairwise()[same], usual.pairwise()[same], rtol=1e-6)
    for name in ("difference", "ci_low", "ci_high"):
        assert report.pairwise()[name].tolist() == pytest.approx((usual.pairwise()[name] * unit).tolist(), rel=1e-6)
    assert report.summary()["score_mean"].tolist() == pytest.approx((usual.summary()["score_mean"] * unit).tolist())
    assert report.power(unit) == usual.power(1.0)
    assert report.winner == usual.winner


def test_the_smallest_p_value_that_few_items_can_give_is_told() -> None:
    report = here(THREE, ITEMS[:6], estimand="median")
    assert "no p value below 0.0312" in report.recommendation
    assert report.winner is None


# --- bad input -------------------------------------------------------------------------------

BAD = [
    ("algorithms", {"algorithms": {"a": same}}),
    ("algorithms", {"algorithms": {}}),
    ("algorithms", {"algorithms": {"a": same, "b": 3}}),
    ("algorithms", {"algorithms": {"a": same, 1: same}}),
    ("algorithms", {"algorithms": [same, same]}),
    ("algorithms", {"algorithms": [("a", same), ("a", more)]}),
    ("algorithms", {"algorithms": None}),
    ("data", {"data": []}),
    ("data", {"data": pd.DataFrame()}),
    ("data", {"data": "abc"}),
    ("data", {"data": 7}),
    ("data", {"data": [1.0], "design": "split"}),
    ("metrics", {"metrics": {}}),
    ("metrics", {"metrics": {"m": 3}}),
    ("metrics", {"metrics": {"m": lambda out, item: "good"}}),
    ("metrics", {"metrics": {"m": lambda out, item: f"{out:.1f}" if out else "0"}}),
    ("metrics", {"metrics": {"latency_s": score}}),
    ("metrics", {"metrics": [score, score]}),
    ("truth", {"truth": [1.0]}),
    ("truth", {"truth": 1.0}),
    ("lower_is_better", {"lower_is_better": ["error"]}),
    ("primary", {"primary": "error"}),
    ("estimand", {"estimand": "mode"}),
    ("method", {"method": "bootstrap"}),
    ("design", {"design": "crossover"}),
    ("repeats", {"repeats": 0}),
    ("repeats", {"repeats": 1.5}),
    ("seed", {"seed": -1}),
    ("alpha", {"alpha": -0.05}),
    ("alpha", {"alpha": 0.0}),
    ("alpha", {"alpha": 1.0}),
    ("alpha", {"alpha": "5 %"}),
    ("rope", {"rope": -1.0}),
    ("rope", {"rope": (1.0, 2.0)}),
    ("rope", {"rope": "small"}),
    ("rope", {"rope": {"error": 0.1}}),
    ("correction", {"correction": "none"}),
    ("stratify", {"stratify": [1] * 12}),
    ("stratify", {"stratify": [1], "design": "split"}),
    ("warmup", {"warmup": -1}),
    ("max_failure_rate", {"max_failure_rate": 2.0}),
    ("max_trials", {"max_trials": 0}),
    ("max_trials", {"max_trials": 1}),
    ("timeout_s", {"timeout_s": 0.0}),
    ("timeout_s", {"timeout_s": -1}),
    ("sequential", {"sequential": 1}),
    ("sequential", {"sequential": True, "design": "split"}),
]


@pytest.mark.parametrize(("argument", "options"), BAD)
def test_bad_input_is_refused_by_its_name_before_anything_runs(
    argument: str, options: dict[str, Any], executions: Executions
) -> None:
    def watched(x: float) -> float:
        executions.note("watched")
        return x

    given = {"algorithms": {"a": watched, "b": watched}, "data": ITEMS, "metrics": {"score": score}, **options}
    with pytest.raises(ValueError, match=rf"^{argument}= ") as caught:
        cf.compare(**given)
    assert isinstance(caught.value, cf.ComparisonError)
    assert executions.notes() == []


def test_a_metric_that_never_gives_a_number_is_refused_by_its_name() -> None:
    with pytest.raises(cf.ComparisonError, match=r"^metrics= has 'm', which returns str, no number"):
        here({"a": lambda x: (x,), "b": lambda x: (x, x)}, metrics={"m": lambda out, item: str(out[0])})


# --- on workers ------------------------------------------------------------------------------


def test_workers_give_what_comes_of_it_here(runtime: Runtime) -> None:
    algorithms = {**THREE, "fails": fails_for_some}
    report = cf.compare(algorithms, ITEMS, {"score": score}, repeats=2)
    compared = ["item", "repeat", "algorithm", "block", "order", "score", "status", "error"]
    pd.testing.assert_frame_equal(report.trials()[compared], here(algorithms, repeats=2).trials()[compared])
    assert report.winner == "most"
    assert report.run is not None
    assert len(report.run.items("trial")) == 96
    assert (report.trials()["queue_wait_s"] >= 0).all() or report.trials()["queue_wait_s"].isna().any()
    assert report.run.status == "success"


def test_a_trial_that_takes_too_long_on_a_worker_is_a_row(runtime: Runtime) -> None:
    hangs = {"same": same, "hangs": lambda x: time.sleep(30 if x == ITEMS[3] else 0) or x * 2}
    report = cf.compare(hangs, ITEMS, {"score": score}, timeout_s=0.3)
    (row,) = report.trials().query("algorithm == 'hangs' and item == 3").to_dict("records")
    assert row["error"] == "StepTimeoutError: took longer than timeout_s=0.3"
    assert report.summary()["failures"][1] >= 1


def test_a_report_fills_in_while_trials_arrive(runtime: Runtime, tmp_path: Any) -> None:
    gate = tmp_path / "gate"

    def waits(x: float) -> float:
        while x == ITEMS[2] and not gate.exists():
            time.sleep(0.01)
        return x * 2

    report = cf.compare({"same": same, "waits": waits}, ITEMS, {"score": score}, wait=False, warmup=0)
    try:
        deadline = time.monotonic() + 20
        while len(report.trials()) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 5 <= len(report.trials()) < 24
        assert "so far" in repr(report).lower()
        assert report.summary()["n"].between(1, 12).all()
    finally:
        gate.touch()
    assert len(report.wait(20).trials()) == 24
    assert "so far" not in repr(report).lower()


def test_trials_of_an_earlier_comparison_are_taken_over(runtime: Runtime, executions: Executions) -> None:
    def counted(x: float) -> float:
        executions.note("counted")
        return x * 2

    first = cf.compare({"same": same, "counted": counted}, ITEMS, {"score": score}, warmup=0)
    again = cf.compare({"same": same, "counted": counted}, ITEMS, {"score": score}, warmup=0, reuse=first)
    assert len(executions.notes()) == 12
    pd.testing.assert_frame_equal(first.pairwise(), again.pairwise())


@pytest.mark.filterwarnings("ignore::celeryflow.ComparisonWarning")  # of what has come when it is cancelled
def test_one_job_is_one_comparison_that_goes_on_where_it_was_cancelled(
    runtime: Runtime, executions: Executions, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def waits(x: float) -> float:
        while x == ITEMS[2] and not gate.exists():
            time.sleep(0.01)
        executions.note("waits")
        return x * 2

    def asked(**options: Any) -> Report:
        given = {"job_id": "waits-or-same", "warmup": 0, **options}
        return cf.compare({"same": same, "waits": waits}, ITEMS, {"score": score}, **given)

    first = asked(wait=False)
    deadline = time.monotonic() + 20
    while len(first.trials()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert asked(wait=False).run.id == first.run.id
    first.run.cancel()
    first.wait(20)
    assert first.is_over
    assert len(first.trials()) < 24
    gate.touch()
    again = asked(alpha=0.01)
    assert again.run.id == first.run.id
    assert len(again.trials()) == len(first.trials()) == 24
    ran = len(executions.notes())
    assert 12 <= ran < 24  # what was not stored yet when it was cancelled ran again
    assert first.winner == "waits"
    assert asked().run.id == first.run.id
    assert len(executions.notes()) == ran
    assert asked(seed=1).run.id != first.run.id
    assert len(executions.notes()) == ran + 12


def test_a_comparison_is_a_workflow_and_its_report_travels(runtime: Runtime) -> None:
    compared = comparison(TWO, {"score": score}, rope=0.1)
    run = compared.run(ITEMS)
    report = run.result()
    assert report.winner == "more"
    pd.testing.assert_frame_equal(report.pairwise(), here(rope=0.1).pairwise())
    assert pickle.loads(pickle.dumps(report)).recommendation == report.recommendation
    with pytest.raises(cf.ComparisonError, match=r"^alpha="):
        comparison(TWO, {"score": score}, alpha=-1)
    with pytest.raises(cf.ComparisonError, match=r"^data="):
        compared.run([])


# --- the document ----------------------------------------------------------------------------


def test_the_example_of_the_document_runs() -> None:
    document = Path(__file__).resolve().parents[1] / "docs" / "comparing.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["report"].pairwise()["n_pairs"].tolist() == [7]
