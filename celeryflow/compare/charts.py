"""A comparison in charts of altair's: differences, distributions, time against quality, average ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.contrast import Floats
from celeryflow.compare.verdicts import BETTER, EQUIVALENT, INCONCLUSIVE, WORSE
from celeryflow.view.offline import Offline, inert

WIDTH, ROW, MOST_POINTS = 560, 26, 3_000
INK, PALE, BAND = "#1c2430", "#9aa6b6", "#dfe6ef"
COLOURS = {BETTER: "#1b7f5c", WORSE: "#c2571a", EQUIVALENT: "#2b6cb0", INCONCLUSIVE: "#6b7688"}
"""Of verdicts, told apart by people who see few colours."""


class Charts(Offline, alt.VConcatChart):
    """The charts of one metric."""


def charts(analysis: Analysis, metric: str, is_over: bool) -> Charts:
    """Differences, distributions, latency against the metric; of three algorithms or more the average ranks."""
    found = [_differences(analysis, metric), _distributions(analysis, metric), _pareto(analysis, metric)]
    if len(analysis.question.algorithms) > 2 and math.isfinite(analysis.critical_difference(metric)):
        found.append(_ranks(analysis, metric))
    so_far = "" if is_over else "so far: "
    names = ", ".join(analysis.question.algorithms)
    return Charts(
        vconcat=found,
        title=alt.TitleParams(inert(f"{so_far}{metric} of {names}", 120), anchor="start"),
        description=inert(f"{so_far}{metric} of {names}: differences, distributions, latency", 300),
        background="white",
        spacing=24,
    )


def optimum(latency_s: Floats, quality: Floats) -> list[int]:
    """The Pareto front: points that no other one beats in both, quickest first; the higher quality is the better."""
    known = [i for i in range(len(quality)) if math.isfinite(latency_s[i]) and math.isfinite(quality[i])]
    front: list[int] = []
    for i in sorted(known, key=lambda i: (latency_s[i], -quality[i])):
        if not front or quality[i] > quality[front[-1]]:
            front.append(i)
    return front


def _differences(analysis: Analysis, metric: str) -> alt.LayerChart:
    judged, rope = analysis.judged(metric), analysis.question.rope.get(metric)
    seen = [e for pair in judged for e in (pair.contrast.difference, *pair.interval) if math.isfinite(e)] or [0.0]
    low, high = min(0.0, *seen), max(0.0, *seen)
    reach = (high - low) or 1.0

    def bounded(value: float) -> float | None:
        return None if math.isnan(value) else float(np.clip(value, low - 0.1 * reach, high + 0.1 * reach))

    values = [
        {
            "pair": inert(f"{pair.a} \N{MINUS SIGN} {pair.b}", 80),
            "difference": bounded(pair.contrast.difference),
            "low": bounded(pair.interval.low),
            "high": bounded(pair.interval.high),
            "verdict": pair.verdict,
            "p": round(pair.p_adjusted, 6),
            "test": pair.contrast.test,
            "n": pair.contrast.n,
        }
        for pair in judged
    ]
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    rows = alt.Chart(alt.InlineData(values=values)).encode(
        y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
        color=alt.Color("verdict:N", scale=scale, legend=alt.Legend(title="of the first")),
        tooltip=["pair:N", "difference:Q", "low:Q", "high:Q", "verdict:N", "p:Q", "test:N", "n:Q"],
    )
    title = inert(f"difference in {metric}, simultaneous intervals", 100)
    layers: list[alt.Chart] = []
    if rope is not None:
        band = alt.Chart(alt.InlineData(values=[{"from": bounded(rope.low), "to": bounded(rope.high)}]))
        layers.append(band.mark_rect(color=BAND).encode(x=alt.X("from:Q", title=title), x2="to:Q"))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    layers += [
        zero.mark_rule(color=PALE, strokeDash=[4, 3]).encode(x=alt.X("zero:Q", title=title)),
        rows.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q"),
        rows.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("difference:Q", title=title)),
    ]
    return alt.LayerChart(layer=layers, width=WIDTH, height=ROW * max(2, len(values)))


def _distributions(analysis: Analysis, metric: str) -> alt.LayerChart:
    names, scores = _names(analysis), analysis.scores(metric)
    step = max(1, math.ceil(scores.size / MOST_POINTS))
    values = [
        {"algorithm": name, "score": float(score)}
        for at, name in enumerate(names)
        for score in scores[::step, at]
        if math.isfinite(score)
    ]
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("score:Q", title=inert(f"{metric} of each item", 80), scale=alt.Scale(zero=False)),
        y=alt.Y("algorithm:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
    )
    layers = [
        base.mark_boxplot(extent="min-max", size=10, color=PALE, opacity=0.5),
        base.mark_tick(color=INK, opacity=0.5, height=14).encode(tooltip=["algorithm:N", "score:Q"]),
    ]
    return alt.LayerChart(layer=layers, width=WIDTH, height=ROW * max(2, len(names)))


def _pareto(analysis: Analysis, metric: str) -> alt.LayerChart:
    names, results = _names(analysis), analysis.results
    means = np.array([analysis.mean(metric, at)[0] for at in range(len(names))])
    latency = np.array([_median(results.latency_s[results.algorithms == at]) for at in range(len(names))])
    front = optimum(latency, -means if metric in analysis.question.lower_is_better else means)
    values = [
        {"algorithm": name, "score": float(means[at]), "latency": float(latency[at]), "front": at in front}
        for at, name in enumerate(names)
        if math.isfinite(means[at]) and math.isfinite(latency[at])
    ]
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("latency:Q", title="median latency in s", scale=alt.Scale(zero=False, nice=True)),
        y=alt.Y("score:Q", title=inert(f"mean {metric}", 60), scale=alt.Scale(zero=False, nice=True)),
    )
    layers = [
        base.transform_filter("datum.front").mark_line(color=PALE, strokeDash=[4, 3]),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            color=alt.condition("datum.front", alt.value(COLOURS[BETTER]), alt.value(COLOURS[INCONCLUSIVE])),
            tooltip=["algorithm:N", "score:Q", "latency:Q"],
        ),
        base.mark_text(align="left", dx=8, color=INK).encode(text="algorithm:N"),
    ]
    return alt.LayerChart(layer=layers, width=WIDTH, height=180).interactive()


def _ranks(analysis: Analysis, metric: str) -> alt.LayerChart:
    """Average ranks on an axis; a bar over those that lie within the critical difference (Demsar, 2006, figure 1)."""
    names, ranks = _names(analysis), analysis.ranks(metric)
    distance = analysis.critical_difference(metric)
    order = [int(at) for at in np.argsort(ranks) if math.isfinite(ranks[at])]
    values = [{"algorithm": names[at], "rank": float(ranks[at]), "row": row} for row, at in enumerate(order)]
    bars = [
        {"low": float(ranks[order[first]]), "high": float(ranks[order[last]]), "row": len(order) + 0.4 * level}
        for level, (first, last) in enumerate(cliques([float(ranks[at]) for at in order], distance))
    ]
    best = 1.0
    ruler = [{"low": best, "high": best + distance, "row": -1, "label": f"critical difference {distance:.3g}"}]
    x: dict[str, Any] = {
        "title": inert(f"average rank in {metric}, 1 the best", 80),
        "scale": alt.Scale(domain=[1, len(names)]),
    }
    y = alt.Y("row:Q", axis=None)

    def drawn(rows: Sequence[dict[str, Any]]) -> alt.Chart:
        return alt.Chart(alt.InlineData(values=list(rows)))

    layers = [
        drawn(values).mark_point(filled=True, size=60, color=INK).encode(x=alt.X("rank:Q", **x), y=y),
        drawn(values).mark_text(align="left", dx=8, color=INK).encode(x=alt.X("rank:Q", **x), y=y, text="algorithm:N"),
        drawn(bars).mark_rule(strokeWidth=5, color=PALE).encode(x=alt.X("low:Q", **x), x2="high:Q", y=y),
        drawn(ruler).mark_rule(strokeWidth=2, color=INK).encode(x=alt.X("low:Q", **x), x2="high:Q", y=y),
        drawn(ruler).mark_text(align="left", dy=-9, color=INK).encode(x=alt.X("low:Q", **x), y=y, text="label:N"),
    ]
    return alt.LayerChart(layer=layers, width=WIDTH, height=ROW * (len(order) + 2))


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """Longest runs of sorted ranks that lie within a distance, by first and last; those of two or more."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] <= distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _names(analysis: Analysis) -> list[str]:
    return [inert(name, 60) for name in analysis.question.algorithms]


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
