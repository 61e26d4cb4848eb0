"""Comparisons that stop when their answer is there."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Runtime

import celeryflow as cf
from celeryflow.compare.always import SignSymmetry

ITEMS = [float(x) for x in np.random.default_rng(0).normal(10.0, 1.0, 60)]
THREE = {
    "same": lambda x: x,
    "more": lambda x: x + 1.5 + np.sin(9 * x),
    "less": lambda x: x - 2.0 + 0.1 * np.cos(7 * x),
}


def compared(algorithms: Any = None, inline: bool = True, **options: Any) -> Any:
    return cf.compare(
        algorithms or THREE, ITEMS, {"score": lambda output, x: output}, sequential=True, inline=inline, **options
    )


def test_looking_at_every_moment_finds_no_difference_where_there_is_none_more_often_than_alpha() -> None:
    random = np.random.default_rng(2)
    false = sum(SignSymmetry(random.standard_t(3, 200)).p_value() <= 0.05 for _ in range(400))
    assert false / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_confidence_sequence_leaves_out_what_its_process_rejects() -> None:
    found = SignSymmetry(np.random.default_rng(3).normal(0.5, 1.0, 60))
    low, high = found.interval(0.95)
    assert low < found.difference < high
    assert (found.p_value() <= 0.05) == (not low <= 0 <= high)
    for end, outwards in ((low, -1e-3), (high, 1e-3)):
        assert found.e_value(end + outwards) >= 20 > found.e_value(end - outwards)


def test_arms_that_have_lost_are_dropped_and_trials_saved() -> None:
    report = compared()
    counts = report.trials()["algorithm"].value_counts()
    assert report.winner == "more"
    assert counts["less"] < counts["more"] < len(ITEMS)
    assert f"saved {180 - len(report.trials())} of 180 trials" in report.recommendation


def test_what_cannot_be_told_apart_uses_all_trials_that_it_may() -> None:
    noise = {"a": lambda x: x + np.random.normal(), "b": lambda x: x - np.random.normal()}
    report = compared(noise, max_trials=40)
    assert report.winner is None
    assert len(report.trials()) == 40


def test_equivalence_ends_it_too() -> None:
    near = {"a": lambda x: x, "b": lambda x: x + 0.01 * np.sin(9 * x)}
    report = compared(near, rope=0.5)
    assert report.pairwise()["verdict"].tolist() == ["equivalent"]
    assert len(report.trials()) < 60


def test_workers_stop_where_it_stops_here(runtime: Runtime) -> None:
    found, here = compared(inline=False), compared()
    columns = ["item", "algorithm", "order", "score"]
    pd.testing.assert_frame_equal(found.trials()[columns], here.trials()[columns])
    assert found.winner == here.winner


@pytest.mark.parametrize("options", [{"design": "split"}, {"method": "permutation"}])
def test_it_is_for_paired_differences(options: dict[str, Any]) -> None:
    with pytest.raises(cf.ComparisonError, match=r"^sequential= "):
        compared(**options)
