"""Reports and sweeps at a glance: what their pages and their words say, beside what the frames say."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

import celeryflow as cf

ITEMS = [10.0 + 0.1 * ((7 * at) % 12) for at in range(12)]
METRICS = {"loss": lambda output, x: output - x}


def compared(**options: Any) -> Any:
    def good(x: float) -> float:
        return x + 0.1 * (x % 0.3)

    def bad(x: float) -> float:
        if x == 10.5 and options.get("max_failure_rate"):
            raise ValueError
        return x + 1.0 + x % 0.2

    return cf.compare({"good": good, "<i>bad": bad}, ITEMS, METRICS, lower_is_better=["loss"], inline=True, **options)


def words_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"(?s)<style>.*?</style>|<[^>]+>", " ", page)).split())


def test_a_report_shows_its_verdict_summary_and_recommendation() -> None:
    report = compared()
    for shown in (words_of(report._repr_html_()), repr(report)):
        assert "★ good" in shown
        assert "by loss, lower is better · 24 trials" in shown
        assert report.recommendation in shown
        for row in report.summary().to_dict("records"):
            said = re.search(rf"{re.escape(row['algorithm'])} +12 +0 +(\S+) \[(\S+), (\S+)\]", shown)
            expected = [row[f"loss_{name}"] for name in ("mean", "ci_low", "ci_high")]
            assert said is not None
            assert [*map(float, said.groups())] == pytest.approx(expected, rel=0.01, abs=1e-3)
    assert "<i>" not in report._repr_html_().partition("</style>")[2].replace('<i style="left', "")


def test_failures_are_counted() -> None:
    assert re.search(r"<i>bad +11 +1 ", repr(compared(max_failure_rate=0.5)))


def test_what_is_not_known_is_no_number() -> None:
    def fails(x: float) -> float:
        raise ValueError

    with pytest.warns(cf.ComparisonWarning):
        report = cf.compare({"a": fails, "b": lambda x: x}, ITEMS[:1], METRICS, inline=True)
    shown = repr(report)
    assert "[\N{MINUS SIGN}∞, ∞]" in shown
    assert re.search(r"a +0 +1 +\N{EN DASH} +\N{EN DASH} +\N{EN DASH}", shown)
    assert "no winner" in words_of(report._repr_html_())


def test_equivalent_algorithms_are_said_to_be_that() -> None:
    assert "equivalent" in repr(compared(rope=5.0)).splitlines()[0]


def test_of_many_metrics_the_primary_one_and_two_others_are_shown() -> None:
    metrics = dict.fromkeys("pqrst", METRICS["loss"])
    report = cf.compare({"a": lambda x: x, "b": lambda x: x + x % 0.3}, ITEMS, metrics, primary="s", inline=True)
    assert repr(report).splitlines()[1].split() == [
        "algorithm",
        "items",
        "failed",
        "s",
        "↑",
        "p",
        "↑",
        "q",
        "↑",
        "p50",
        "p95",
    ]
    assert "2 more metrics in summary()" in repr(report)


def test_a_sweep_shows_its_best_settings_first() -> None:
    found = cf.sweep(lambda x, by: x + by, ITEMS, {"by": [*range(25, 0, -1)]}, METRICS, ["loss"], inline=True)
    lines = repr(found).splitlines()
    assert lines[2].split()[:2] == ["★", "by=1"]
    assert [line.split()[0] for line in lines[3:5]] == ["by=2", "by=3"]
    assert "5 more settings" in lines[22]
    assert found.recommendation in words_of(found._repr_html_())


def test_before_any_trial_a_card_has_its_lines_and_nothing_in_them() -> None:
    found = cf.sweep(lambda x, by: x + by, ITEMS, {"by": [1, 2]}, METRICS, ["loss"], inline=True)
    card = found.card(is_first=True)
    assert card.verdict == "▸ so far"
    assert card.facts.endswith("0 of 24 trials")
    assert [row.cells[:4] for row in card.rows] == [(f"by={by}", "0", "0", "\N{EN DASH}") for by in (1, 2)]
