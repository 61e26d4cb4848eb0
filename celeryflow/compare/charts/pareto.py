"""Latency against quality, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.charts.look import (
    CHARACTER,
    GREEN,
    GREY,
    WIDTH,
    drawn,
    figures,
    is_wide,
    labels,
    span,
    texts,
    titled,
)
from celeryflow.compare.contrast import Floats
from celeryflow.view.offline import inert

HEIGHT, LINE = 220, 13
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))

Box = tuple[float, float, float, float]


def pareto(analysis: Analysis, metric: str) -> alt.LayerChart | None:
    """A point an algorithm; None where there is none."""
    names, results, asked = labels(analysis.question.algorithms, 30), analysis.results, analysis.question
    found = [analysis.mean(metric, at) for at in range(len(names))]
    means = np.array([mean for mean, _ in found])
    latency = np.array([_median(results.latency_s[results.algorithms == at]) for at in range(len(names))])
    known = [at for at in range(len(names)) if math.isfinite(means[at]) and math.isfinite(latency[at])]
    if not known:
        return None
    is_lower = metric in asked.lower_is_better
    front = optimum(latency, -means if is_lower else means)
    unit_s, unit = next((u for u in UNITS if float(np.median(latency[known])) >= u[0]), UNITS[-1])
    xs, ys = [float(latency[at]) / unit_s for at in known], [float(means[at]) for at in known]
    x_scale, y_scale, places = _scales(xs, ys)
    sides = placed(places, [names[at] for at in known], "below" if is_lower else "above")
    rows = [
        {
            "algorithm": names[at], "latency": x, "score": y, "front": at in front, "side": side,
            "median latency": f"{figures(x)} {unit}", "mean": figures(y),
            "interval": " to ".join(map(figures, found[at][1])),
        }
        for at, x, y, side in zip(known, xs, ys, sides, strict=True)
    ]  # fmt: skip
    better = "lower is better" if is_lower else "higher is better"
    base = drawn(rows).encode(
        x=alt.X("latency:Q", title=f"median latency of a call in {unit}, lower is better", scale=x_scale),
        y=alt.Y("score:Q", title=inert(f"mean {metric}, {better}", 60), scale=y_scale),
    )
    points = base.encode(tooltip=["algorithm:N", "mean:N", "interval:N", "median latency:N"])
    layers = [
        base.transform_filter("datum.front").mark_line(
            color=GREEN, strokeDash=[4, 3], interpolate="step-after", opacity=0.8
        ),
        points.transform_filter("datum.front").mark_point(filled=True, size=90, opacity=1, color=GREEN),
        points.transform_filter("!datum.front").mark_point(size=60, strokeWidth=2, opacity=1, color=GREY),
        *_written(base),
    ]
    title = titled(f"Latency against {metric}", "filled: the Pareto front, of which nobody is both quicker and better")
    return alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT, title=title)


def optimum(latency_s: Floats, quality: Floats) -> list[int]:
    """The Pareto front: points that no other one beats in both, quickest first; the higher quality is the better."""
    known = [i for i in range(len(quality)) if math.isfinite(latency_s[i]) and math.isfinite(quality[i])]
    front: list[int] = []
    for i in sorted(known, key=lambda i: (latency_s[i], -quality[i])):
        if not front or quality[i] > quality[front[-1]]:
            front.append(i)
    return front


def _scales(xs: Sequence[float], ys: Sequence[float]) -> tuple[alt.Scale, alt.Scale, list[tuple[float, float]]]:
    """The axes, and where each point is in pixels."""
    is_log = is_wide(xs)
    across = [math.log10(x) for x in xs] if is_log else list(xs)
    (left, right), (low, high) = span(across, 0.12), span(ys, 0.12)
    if not is_log and left < 0:
        left = 0.0
    ends = [10**left, 10**right] if is_log else [left, right]
    places = [
        ((x - left) / (right - left) * WIDTH, (high - y) / (high - low) * HEIGHT)
        for x, y in zip(across, ys, strict=True)
    ]
    x_scale = alt.Scale(type="log" if is_log else "linear", domain=ends, nice=False)
    return x_scale, alt.Scale(domain=[low, high], nice=False, zero=False), places


SIDES: dict[str, dict[str, Any]] = {
    "right": {"align": "left", "dx": 9},
    "left": {"align": "right", "dx": -9},
    "above": {"align": "center", "dy": -12},
    "below": {"align": "center", "dy": 13},
}


def placed(points: Sequence[tuple[float, float]], names: Sequence[str], first: str) -> list[str]:
    """On which side of its point each name has room, so that none lies on another or on a point; empty where nowhere.

    Parameters
    ----------
    points : sequence of (float, float)
        In pixels, from the upper left corner.
    names : sequence of str
        One a point.
    first : str
        The side to take where there is room, away from the line.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    sides: list[str] = []
    for at, ((x, y), name) in enumerate(zip(points, names, strict=True)):
        others = [*taken[:at], *taken[at + 1 :]]
        side, box = next(
            ((side, box) for side, box in _boxes(x, y, CHARACTER * len(name), first) if _is_free(box, others)),
            ("", None),
        )
        sides.append(side)
        taken += [box] if box is not None else []
    return sides


def _boxes(x: float, y: float, width: float, first: str) -> list[tuple[str, Box]]:
    half = LINE / 2
    boxes: dict[str, Box] = {
        "right": (x + 8, y - half, x + 8 + width, y + half),
        "left": (x - 8 - width, y - half, x - 8, y + half),
        "above": (x - width / 2, y - 12 - half, x + width / 2, y - 12 + half),
        "below": (x - width / 2, y + 13 - half, x + width / 2, y + 13 + half),
    }
    return sorted(boxes.items(), key=lambda side: side[0] != first)


def _is_free(box: Box, others: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    if left < 0 or right > WIDTH or top < 0 or bottom > HEIGHT:
        return False
    return all(right <= o[0] or left >= o[2] or bottom <= o[1] or top >= o[3] for o in others)


def _written(base: alt.Chart) -> list[alt.Chart]:
    return [
        texts(base.transform_filter(f"datum.side == '{side}'"), "algorithm", **mark) for side, mark in SIDES.items()
    ]


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
