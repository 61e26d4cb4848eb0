"""``report.plot()``: what the charts show, without a network, and with names that are nobody's tags."""

import json
import sys
from typing import Any

import numpy as np
import pytest

import celeryflow as cf
from celeryflow.compare.charts import cliques, optimum
from celeryflow.view.offline import SCHEMA, VEGA

ITEMS = [float(x) for x in np.random.default_rng(0).normal(10.0, 1.0, 12)]


def report(names: tuple[str, ...], **options: Any) -> Any:
    algorithms = {name: lambda x, by=at: x + by + 0.1 * np.sin(9 * x + by) for at, name in enumerate(names)}
    return cf.compare(algorithms, ITEMS, {"score": lambda output, x: output}, inline=True, **options)


def test_charts_show_differences_distributions_latency_and_ranks() -> None:
    two, three = (report(names, rope=0.1).plot().to_dict() for names in (("a", "b"), ("a", "b", "c")))
    assert [len(chart["vconcat"]) for chart in (two, three)] == [3, 4]
    text = json.dumps(three)
    for shown in ("simultaneous intervals", "median latency in s", "critical difference", "better"):
        assert shown in text


def test_a_notebook_draws_the_charts_without_a_network() -> None:
    bundle, _ = report(("a", "b")).plot()._repr_mimebundle_()
    assert bundle[VEGA]["$schema"] == SCHEMA
    assert "score of a, b" in bundle["text/plain"]


def test_names_are_inert_in_a_page() -> None:
    assert "<" not in json.dumps(report(("</script><b>", "b")).plot().to_dict())


def test_without_altair_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(cf.MissingExtraError, match="plot"):
        report(("a", "b")).plot()


def test_the_front_is_what_nobody_beats_in_time_and_quality() -> None:
    latency, quality = np.array([1.0, 2.0, 3.0, 1.5, np.nan]), np.array([1.0, 3.0, 2.0, 0.5, 9.0])
    assert optimum(latency, quality) == [0, 1]


def test_cliques_are_the_longest_runs_within_the_distance() -> None:
    assert cliques([1.0, 1.5, 2.6, 3.0], 1.2) == [(0, 1), (1, 2), (2, 3)]
    assert cliques([1.0, 3.0], 1.0) == []
