"""The scores of every item, an algorithm a row."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.charts.look import BLUE, GREY, ROW, WIDTH, drawn, figures, labels, span, titled
from celeryflow.view.offline import inert

MOST_POINTS = 3_000
"""More scores than that are not all drawn; the boxes are of all of them."""


def distributions(analysis: Analysis, metric: str) -> alt.LayerChart | None:
    """Ticks for the items, and a box from quartile to quartile with the median; None without any score."""
    scores = analysis.scores(metric)
    if not np.any(np.isfinite(scores)):
        return None
    names = _names(analysis)
    step = max(1, math.ceil(scores.size / MOST_POINTS))
    ticks = [
        {"algorithm": name, "score": float(score), "value": figures(float(score))}
        for at, name in enumerate(names)
        for score in scores[::step, at]
        if math.isfinite(score)
    ]
    boxes = [_box(name, scores[:, at]) for at, name in enumerate(names)]
    scale = alt.Scale(domain=span(scores.ravel().tolist()), zero=False, nice=False)
    x: dict[str, Any] = {"scale": scale, "title": inert(f"{metric} of an item", 80)}
    y = alt.Y("algorithm:N", title=None, sort=None, axis=alt.Axis(labelLimit=0, ticks=False))
    tips = ["algorithm:N", "median:N", "quartiles:N", "range:N", "items:Q"]
    box = drawn(boxes)
    layers = [
        box.mark_bar(size=12, color=BLUE, opacity=0.25).encode(x=alt.X("low:Q", **x), x2="high:Q", y=y, tooltip=tips),
        drawn(ticks)
        .mark_tick(color=GREY, thickness=1, height=12, opacity=max(0.15, min(0.8, 40 / len(scores))))
        .encode(x=alt.X("score:Q", **x), y=y, tooltip=["algorithm:N", alt.Tooltip("value:N", title=inert(metric, 60))]),
        box.mark_tick(color=BLUE, thickness=3, height=16).encode(x=alt.X("middle:Q", **x), y=y, tooltip=tips),
    ]
    title = titled("Every item", "a tick an item · box: the middle half, and the median")
    return alt.LayerChart(layer=layers, width=WIDTH, height=ROW * max(2, len(names)), title=title)


def _names(analysis: Analysis) -> list[str]:
    """Algorithms, with how many of their trials failed."""
    whose, failed = analysis.results.algorithms, analysis.results.is_failed
    counts = np.bincount(whose[failed], minlength=len(analysis.question.algorithms))
    shown = labels(analysis.question.algorithms)
    return [f"{name} · {count} failed" if count else name for name, count in zip(shown, counts, strict=True)]


def _box(name: str, scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> dict[str, object]:
    known = scores[np.isfinite(scores)]
    if not len(known):
        return {"algorithm": name, "items": 0}
    least, low, middle, high, most = (float(np.quantile(known, share)) for share in (0, 0.25, 0.5, 0.75, 1))
    return {
        "algorithm": name,
        "low": low,
        "middle": middle,
        "high": high,
        "median": figures(middle),
        "quartiles": f"{figures(low)} to {figures(high)}",
        "range": f"{figures(least)} to {figures(most)}",
        "items": len(known),
    }
