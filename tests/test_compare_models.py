"""Cross-validated estimators, power, saved reports and sweeps."""

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Runtime
from executions import Executions
from scipy import stats
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from sklearn.model_selection import RepeatedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeRegressor

import celeryflow as cf
from celeryflow.compare.power import each_needed, pairs_needed
from celeryflow.compare.report import Report

MODELS = {"ols": LinearRegression(), "ridge": Ridge(), "stump": DecisionTreeRegressor(max_depth=1)}
ITEMS = [float(x) for x in np.random.default_rng(0).normal(10.0, 1.0, 12)]


@pytest.fixture(scope="module")
def diabetes() -> tuple[pd.DataFrame, pd.Series]:
    return load_diabetes(return_X_y=True, as_frame=True)


# --- cross-validation ------------------------------------------------------------------------


def test_estimators_are_cloned_fitted_and_judged_by_the_corrected_t_test(diabetes: Any) -> None:
    report = cf.compare(
        MODELS, diabetes, {"r2": r2_score, "mae": mean_absolute_error}, cv=10, lower_is_better=["mae"], inline=True
    )
    rows = report.pairwise().query("metric == 'r2'")
    assert set(rows["test"]) == {"Nadeau-Bengio corrected t"}
    assert not hasattr(MODELS["ols"], "coef_")
    wide = report.trials().pivot(index="item", columns="algorithm", values="r2")
    for row in rows.to_dict("records"):
        d = wide[row["a"]] - wide[row["b"]]
        # 442 rows in 10 folds: test folds of 44 or 45.
        ratio = np.mean([size / (442 - size) for size in [45] * 2 + [44] * 8])
        error = d.std() * math.sqrt(1 / 10 + ratio)
        assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(d.mean() / error), 9))
        reach = stats.t.ppf(1 - 0.05 / 3 / 2, 9) * error
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((d.mean() - reach, d.mean() + reach))
    assert report.omnibus().empty
    assert math.isnan(report.critical_difference())


def test_metrics_get_predictions_and_targets_whichever_they_take_first(diabetes: Any) -> None:
    def mine(output: Any, truth: Any) -> float:
        return float(r2_score(truth, output))

    x, y = diabetes[0].to_numpy(), diabetes[1].to_numpy()
    report = cf.compare(
        {"ols": LinearRegression(), "ridge": Ridge()}, (x, y), {"r2": r2_score, "mine": mine},
        cv=RepeatedKFold(n_splits=3, n_repeats=2, random_state=1), inline=True,
    )  # fmt: skip
    trials = report.trials()
    assert trials["r2"].tolist() == trials["mine"].tolist()
    assert len(trials) == 12
    assert trials["r2"].between(0.2, 0.8).all()


def test_folds_of_classifiers_are_stratified_and_follow_from_the_seed() -> None:
    models = {"smooth": GaussianNB(var_smoothing=1.0), "plain": GaussianNB()}
    data = load_iris(return_X_y=True)
    first, again = (
        cf.compare(models, data, {"accuracy": accuracy_score}, cv=5, inline=True).trials()["accuracy"] for _ in range(2)
    )
    assert first.tolist() == again.tolist()
    assert first.min() > 0.3


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("algorithms", {"algorithms": {"a": Ridge(), "b": abs}}),
        ("algorithms", {"algorithms": {"a": Ridge(), "b": LinearRegression}}),
        ("algorithms", {"cv": None}),
        ("data", {"data": np.ones((4, 2))}),
        ("data", {"data": (np.ones((4, 2)), np.ones(3))}),
        ("data", {"data": (np.ones((0, 2)), np.ones(0))}),
        ("cv", {"cv": 1}),
        ("cv", {"cv": 1000}),
        ("cv", {"cv": "ten"}),
        ("design", {"design": "split"}),
        ("estimand", {"estimand": "median"}),
        ("truth", {"truth": [1.0]}),
        ("metrics", {"metrics": {"m": lambda output, truth: "good"}}),
    ],
)
def test_bad_input_of_a_cross_validation_is_refused_by_its_name(
    argument: str, options: dict[str, Any], diabetes: Any
) -> None:
    given: dict[str, Any] = {"algorithms": MODELS, "data": diabetes, "metrics": {"r2": r2_score}, "cv": 5, **options}
    with pytest.raises(cf.ComparisonError, match=rf"^{argument}= "):
        cf.compare(**given)


def test_folds_on_workers_give_what_they_give_here(runtime: Runtime, diabetes: Any) -> None:
    found, here = (
        cf.compare(MODELS, diabetes, {"r2": r2_score}, cv=4, inline=inline).trials()[["item", "algorithm", "r2"]]
        for inline in (False, True)
    )
    pd.testing.assert_frame_equal(found, here)


# --- power -----------------------------------------------------------------------------------


def compared(**options: Any) -> Report:
    return cf.compare(
        {"a": lambda x: x, "b": lambda x: x + np.sin(5 * x)}, ITEMS, {"score": lambda out, x: out}, inline=True,
        **options,
    )  # fmt: skip


def test_items_needed_are_cohens() -> None:
    """Cohen (1988), table 2.4.1: 64 of each side for d = 0.5 at 80 %, 26 for 0.8; 394 for 0.2."""
    assert [each_needed(d, 1.0, 0.8, 0.05) for d in (0.5, 0.8, 0.2)] == [64, 26, 394]
    assert [pairs_needed(d, 1.0, 0.8, 0.05) for d in (0.5, 0.8, 0.2)] == [34, 15, 199]


def test_a_report_says_how_many_items_find_an_effect_in_the_metrics_unit() -> None:
    report = compared()
    trials = report.trials().pivot(index="item", columns="algorithm", values="score")
    spread = (trials["a"] - trials["b"]).std()
    assert report.power(spread / 2) == report.power(-spread / 2) == 34
    assert report.power(spread / 2, power=0.9) == 44
    assert compared(estimand="median").power(spread / 2) == math.ceil(34 * math.pi / 3)
    assert compared(design="split").power(0.5) % 2 == 0


@pytest.mark.parametrize("options", [{"effect": 0.0}, {"effect": "a"}, {"effect": 1.0, "power": 1.5}])
def test_power_refuses_what_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(cf.ComparisonError, match=r"^(effect|power)= "):
        compared().power(**options)
    with pytest.raises(cf.UnknownError, match="no metric 'speed'"):
        compared().power(1.0, metric="speed")


# --- files -----------------------------------------------------------------------------------


def test_a_saved_report_says_the_same(tmp_path: Path) -> None:
    def fails(x: float) -> float:
        if x > 11:
            raise ValueError("no")
        return x * 2

    frame = pd.DataFrame({"g": list("aabbccddeeff"), "h": [1, 2] * 6, "x": ITEMS})
    report = cf.compare(
        {"a": lambda g: g["x"].mean(), "b": lambda g: fails(g["x"].mean())}, frame.groupby(["g", "h"]),
        {"score": lambda out, g: out}, rope=0.1, inline=True,
    )  # fmt: skip
    path = tmp_path / "report.json"
    report.save(path)
    loaded = cf.load_report(str(path))
    for name in ("trials", "summary", "pairwise", "omnibus"):
        pd.testing.assert_frame_equal(getattr(loaded, name)(), getattr(report, name)())
    assert (loaded.recommendation, loaded.winner) == (report.recommendation, report.winner)
    assert loaded.run is None


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": "else"}', pickle.dumps(Bomb())])
def test_what_is_no_report_is_refused_and_never_executed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "report"
    path.write_bytes(content)
    with pytest.raises(cf.ComparisonError, match=r"^path= .* holds no report"):
        cf.load_report(path)
    assert not (tmp_path / "exploded").exists()


def test_a_report_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    compared().save(path)
    found = json.loads(path.read_text())
    found["planned"][0][2] = 17
    path.write_text(json.dumps(found))
    with pytest.raises(cf.ComparisonError, match="holds no report"):
        cf.load_report(path)


# --- sweeps ----------------------------------------------------------------------------------


def curve(x: float, power: int = 1, scale: float = 1.0) -> float:
    return scale * x**power


def off(output: float, x: float) -> float:
    return abs(output - 2 * x**2)


GRID = {"power": [1, 2, 3], "scale": [0.5, 2.0]}


def test_a_sweep_finds_the_best_setting_of_a_grid() -> None:
    found = cf.sweep(curve, ITEMS, GRID, {"off": off}, lower_is_better=["off"], inline=True)
    assert found.best_params == {"power": 2, "scale": 2.0}
    trials, summary = found.trials(), found.summary()
    assert len(trials) == 72
    assert {"power", "scale", "item", "off", "latency_s", "status"} <= set(trials.columns)
    assert summary["off_mean"].is_monotonic_increasing
    assert summary.loc[0, ["power", "scale", "recommended"]].tolist() == [2, 2.0, True]
    assert "optimistic" in found.recommendation
    assert found.holdout is None


def test_a_sweep_draws_settings_at_random() -> None:
    drawn = [
        cf.sweep(
            curve, ITEMS, {**GRID, "scale": stats.uniform(1, 2)}, {"off": off}, ["off"], n_samples=5, seed=seed,
            inline=True,
        ).summary()["scale"].tolist()
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]
    some = cf.sweep(curve, ITEMS, GRID, {"off": off}, ["off"], n_samples=4, inline=True).summary()
    assert len(some[["power", "scale"]].drop_duplicates()) == len(some) == 4


def test_a_sweep_tells_what_the_best_setting_is_worth_on_items_held_out() -> None:
    found = cf.sweep(curve, ITEMS, GRID, {"off": off}, ["off"], holdout=[1.0, 2.0, 3.0], inline=True)
    assert found.holdout is not None
    assert found.holdout[["n", "off_mean"]].to_dict("records") == [{"n": 3, "off_mean": 0.0}]
    assert "on the items held out it is 0" in found.recommendation


def test_a_truth_is_that_of_the_items_held_out_too() -> None:
    metrics = {"off": lambda output, truth: abs(output - truth)}
    found = cf.sweep(curve, ITEMS, GRID, metrics, ["off"], truth=lambda x: 2 * x**2, holdout=[1.0, 2.0], inline=True)
    assert found.best_params == {"power": 2, "scale": 2.0}
    assert found.holdout is not None
    assert found.holdout["off_mean"].tolist() == [0.0]


def test_a_setting_that_fails_is_not_the_best() -> None:
    def fails(x: float, power: int) -> float:
        if power == 2:
            raise ValueError("not 2")
        return curve(x, power, 2.0)

    found = cf.sweep(fails, ITEMS, {"power": [1, 2, 3]}, {"off": off}, ["off"], inline=True)
    assert found.best_params == {"power": 1}
    with pytest.raises(cf.ComparisonError, match="not 2"):
        _ = cf.sweep(fails, ITEMS, {"power": [2]}, {"off": off}, ["off"], inline=True).best_params


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("wf_or_fn", {"wf_or_fn": 3}),
        ("params", {"params": {}}),
        ("params", {"params": {"power": []}}),
        ("params", {"params": {"power": 3}}),
        ("params", {"params": {"power": "abc"}}),
        ("params", {"params": {1: [2]}}),
        ("params", {"params": {"scale": stats.uniform(1, 2)}}),
        ("params", {"params": {name: list(range(100)) for name in ("a", "b", "c")}}),
        ("n_samples", {"n_samples": 0}),
        ("seed", {"seed": -1}),
        ("data", {"data": []}),
        ("data", {"holdout": []}),
        ("holdout", {"holdout": [1.0], "wait": False}),
        ("truth", {"holdout": [1.0], "truth": [0.0] * len(ITEMS)}),
        ("metrics", {"metrics": {}}),
        ("lower_is_better", {"lower_is_better": ["speed"]}),
    ],
)
def test_bad_input_of_a_sweep_is_refused_by_its_name(argument: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"wf_or_fn": curve, "data": ITEMS, "params": GRID, "metrics": {"off": off}, **options}
    with pytest.raises(cf.ComparisonError, match=rf"^{argument}= "):
        cf.sweep(**given)


def test_a_sweep_of_a_workflow_runs_on_workers_and_goes_on_where_it_failed(
    runtime: Runtime, executions: Executions, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"

    @cf.step
    def raised(x: float, power: int) -> float:
        executions.note("trial")
        if power == 2 and not ready.exists():
            raise ValueError("not yet")
        return x**power

    @cf.workflow
    def doubled(x: float, power: int) -> float:
        return raised(x, power) * 2

    found = cf.sweep(doubled, ITEMS[:3], {"power": [1, 2]}, {"off": off}, ["off"])
    assert found.best_params == {"power": 1}
    ready.touch()
    again = cf.sweep(doubled, ITEMS[:3], {"power": [1, 2]}, {"off": off}, ["off"], reuse=found)
    assert again.best_params == {"power": 2}
    assert len(executions.notes()) == 9
