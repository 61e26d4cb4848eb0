"""Differences of all pairs with their intervals, beside the region of practical equivalence."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.charts.look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    ROW,
    SPACE,
    WIDTH,
    drawn,
    figures,
    labels,
    span,
    texts,
    titled,
)
from celeryflow.compare.contrast import Interval
from celeryflow.compare.verdicts import BETTER, EQUIVALENT, INCONCLUSIVE, WORSE, Judged
from celeryflow.view.offline import inert

MOST_PAIRS = 28
"""Of more pairs, those with the best algorithm are shown."""

LOOKS = {
    BETTER: (GREEN, "triangle-up"),
    WORSE: (ORANGE, "triangle-down"),
    EQUIVALENT: (BLUE, "square"),
    INCONCLUSIVE: (GREY, "circle"),
}
"""Colour and shape of each verdict: either alone tells."""

MOST_ROPE = 8.0
"""A region that is so many times as wide as what was found is not shown to its ends."""


def differences(analysis: Analysis, metric: str) -> alt.LayerChart:
    """A row a pair, a minus b; the verdict by colour and shape."""
    shown, rope = _shown(analysis, metric), analysis.question.rope.get(metric)
    domain = _domain(shown, rope)
    names = dict(zip(analysis.question.algorithms, labels(analysis.question.algorithms, 28), strict=True))
    rows = drawn([_row(pair, f"{names[pair.a]} \N{MINUS SIGN} {names[pair.b]}", domain) for pair in shown])
    x: dict[str, Any] = {
        "scale": alt.Scale(domain=domain, nice=False, zero=False),
        "title": _direction(analysis, metric),
    }
    verdicts = [verdict for verdict in LOOKS if any(pair.verdict == verdict for pair in shown)]
    scales = [alt.Scale(domain=verdicts, range=[LOOKS[verdict][at] for verdict in verdicts]) for at in (0, 1)]
    legend = alt.Legend(title="the first is", orient="bottom", direction="horizontal", symbolSize=80)
    rows = rows.encode(
        y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=0, ticks=False)),
        color=alt.Color("verdict:N", scale=scales[0], legend=legend),
        tooltip=["pair:N", "difference:N", "interval:N", "verdict:N", "p adjusted:N", "test:N", "n:Q"],
    )
    points = rows.mark_point(filled=True, size=90, opacity=1)
    layers = [
        *([_band(rope, domain, x)] if rope is not None else []),
        drawn([{"zero": 0.0}]).mark_rule(color=GREY).encode(x=alt.X("zero:Q", **x)),
        rows.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high:Q"),
        points.encode(x=alt.X("middle:Q", **x), shape=alt.Shape("verdict:N", scale=scales[1], legend=legend)),
        texts(rows, "unknown", dx=6).encode(x=alt.datum(domain[0]), color=alt.Undefined),
    ]
    level = 100 * (1 - analysis.question.alpha)
    title = titled("Differences, first \N{MINUS SIGN} second", _remark(analysis, shown, rope, level))
    return alt.LayerChart(layer=layers, width=WIDTH, height=ROW * max(2, len(shown)), title=title)


def _shown(analysis: Analysis, metric: str) -> list[Judged]:
    judged = analysis.judged(metric)
    if len(judged) <= MOST_PAIRS:
        return judged
    best = _best(analysis, metric)
    mine = [pair for pair in judged if best in (pair.a, pair.b)]
    return sorted(mine, key=lambda pair: pair.contrast.difference)


def _best(analysis: Analysis, metric: str) -> str:
    """The algorithm with the best mean."""
    names, sign = analysis.question.algorithms, 1.0 if metric in analysis.question.lower_is_better else -1.0
    means = [sign * analysis.mean(metric, at)[0] for at in range(len(names))]
    return names[min(range(len(names)), key=lambda at: (math.isnan(means[at]), means[at]))]


def _domain(shown: list[Judged], rope: Interval | None) -> tuple[float, float]:
    found = [end for pair in shown for end in (pair.contrast.difference, *pair.interval) if math.isfinite(end)]
    low, high = span([0.0, *found])
    if rope is not None and rope.high - rope.low < MOST_ROPE * (high - low):
        return span([0.0, *found, *rope])
    return low, high


def _row(pair: Judged, name: str, domain: tuple[float, float]) -> dict[str, Any]:
    """Intervals end where the chart does, their figures do not; of nothing known there is no mark."""
    is_known, (low, high) = math.isfinite(pair.contrast.difference), pair.interval
    return {
        "pair": name,
        "middle": pair.contrast.difference,
        "low": max(low, domain[0]) if is_known else math.nan,
        "high": min(high, domain[1]) if is_known else math.nan,
        "difference": figures(pair.contrast.difference),
        "interval": f"{figures(low)} to {figures(high)}",
        "verdict": pair.verdict,
        "p adjusted": f"{pair.p_adjusted:.3g}",
        "test": pair.contrast.test,
        "n": pair.contrast.n,
        "unknown": "" if is_known else "nothing is known: no item has scores of both",
    }


def _band(rope: Interval, domain: tuple[float, float], x: dict[str, Any]) -> alt.Chart:
    low, high = max(rope.low, domain[0]), min(rope.high, domain[1])
    ends = {"from": low, "to": high, "region of equivalence": f"{figures(rope.low)} to {figures(rope.high)}"}
    found: alt.Chart = drawn([ends]).mark_rect(color=BLUE, opacity=0.15)
    return found.encode(x=alt.X("from:Q", **x), x2="to:Q", tooltip=["region of equivalence:N"])


def _direction(analysis: Analysis, metric: str) -> str:
    left, right = ("first", "second") if metric in analysis.question.lower_is_better else ("second", "first")
    said = inert(metric, 60)
    return f"← the {left} is better{SPACE}·{SPACE}difference in {said}{SPACE}·{SPACE}the {right} is better →"


def _remark(analysis: Analysis, shown: list[Judged], rope: Interval | None, level: float) -> str:
    count = len(analysis.judged(analysis.question.primary))
    said = [f"simultaneous {level:g} % intervals" if count > 1 else f"{level:g} % interval"]
    if any(math.isinf(end) for pair in shown for end in pair.interval):
        said.append("those from edge to edge are endless")
    if rope is not None:
        said.append(f"shaded: region of equivalence, {figures(rope.low)} to {figures(rope.high)}")
    if len(shown) < count:
        said.append(f"{len(shown)} of {count} pairs: those with the best mean; pairwise() has the others")
    return " · ".join(said)
