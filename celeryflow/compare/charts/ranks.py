"""The critical-difference diagram (Demsar, 2006, figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.charts.look import BLUE, GREY, WIDTH, Align, drawn, figures, labels, texts, titled
from celeryflow.view.offline import inert

LINE, STEP, BAR = 20, 1.0, 0.45
"""Pixels of a row; rows between two names, and between two bars."""

SIDES: dict[str, tuple[Align, int]] = {"left": ("right", -4), "right": ("left", 4)}
"""How names are written there."""


def ranks(analysis: Analysis, metric: str) -> alt.LayerChart | None:
    """Average ranks on an axis, bars over those that are not told apart; None without three complete ones."""
    names, found = labels(analysis.question.algorithms), analysis.ranks(metric)
    distance = analysis.critical_difference(metric)
    order = [int(at) for at in np.argsort(found, kind="stable") if math.isfinite(found[at])]
    if len(order) < 3 or not math.isfinite(distance):
        return None
    ranked = [float(found[at]) for at in order]
    groups = cliques(ranked, distance)
    last, edge = float(len(names)), 0.04 * (len(names) - 1)
    low, high = 1.0 - edge, last + edge
    below = 0.4 + BAR * len(groups)
    paths, ends = _names([names[at] for at in order], ranked, (low, high), below)
    rows = below + STEP * math.ceil(len(order) / 2)
    axis = alt.Axis(orient="top", grid=False, values=list(range(1, len(names) + 1)), format="d")
    x: dict[str, Any] = {
        "title": inert(f"average rank in {metric}, 1 the best", 80),
        "scale": alt.Scale(domain=[low, high], nice=False, zero=False),
        "axis": axis,
    }
    y = alt.Y("row:Q", axis=None, scale=alt.Scale(domain=[rows + 1.2, 0], nice=False))
    tips = ["algorithm:N", "rank:N"]
    layers = [
        drawn(paths)
        .mark_line(color=GREY, strokeWidth=1.2)
        .encode(x=alt.X("x:Q", **x), y=y, detail="algorithm:N", order="at:Q"),
        drawn(_bars(ranked, groups))
        .mark_rule(strokeWidth=5, color=BLUE)
        .encode(x=alt.X("low:Q", **x), x2="high:Q", y=y),
        *(
            texts(drawn([end for end in ends if end["side"] == side]), "algorithm", align, dx=shift).encode(
                x=alt.X("x:Q", **x), y=y, tooltip=tips
            )
            for side, (align, shift) in SIDES.items()
        ),
        *_ruler(distance, last, rows + 0.7, x, y),
    ]
    title = titled("Average ranks", _remark(analysis, distance))
    return alt.LayerChart(layer=layers, width=WIDTH, height=LINE * (rows + 1.2), title=title)


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """Longest runs of sorted ranks that lie within a distance, by first and last; those of two or more."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] <= distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _names(
    names: Sequence[str], ranked: Sequence[float], edges: tuple[float, float], below: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The line from each rank down to its name: the better half at the left, the best on top, others at the right."""
    paths: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    half = math.ceil(len(names) / 2)
    for at, (name, rank) in enumerate(zip(names, ranked, strict=True)):
        is_left = at < half
        row = below + STEP * (at if is_left else len(names) - 1 - at) + 0.5
        edge = edges[0] if is_left else edges[1]
        bends = ((rank, 0.0), (rank, row), (edge, row))
        paths += [{"algorithm": name, "at": step, "x": x, "row": y} for step, (x, y) in enumerate(bends)]
        side = "left" if is_left else "right"
        ends.append({"algorithm": name, "rank": figures(rank), "x": edge, "row": row, "side": side})
    return paths, ends


def _bars(ranked: Sequence[float], groups: Sequence[tuple[int, int]]) -> list[dict[str, float]]:
    ends = ((ranked[first], ranked[last]) for first, last in groups)
    return [{"low": low - 0.02, "high": high + 0.02, "row": 0.45 + BAR * at} for at, (low, high) in enumerate(ends)]


def _ruler(distance: float, last: float, row: float, x: dict[str, Any], y: alt.Y) -> list[alt.Chart]:
    """The distance itself, as long as the axis at most."""
    length = min(distance, last - 1.0)
    said = f"critical difference {distance:.3g}" + (", longer than the axis" if length < distance else "")
    rule = drawn([{"low": 1.0, "high": 1.0 + length, "row": row, "said": said}])
    return [
        rule.mark_rule(strokeWidth=3, color=GREY).encode(x=alt.X("low:Q", **x), x2="high:Q", y=y),
        texts(rule, "said", dy=-9).encode(x=alt.X("low:Q", **x), y=y),
    ]


def _remark(analysis: Analysis, distance: float) -> str:
    alpha = figures(analysis.question.alpha)
    return f"bars join those that Nemenyi's test does not tell apart (alpha {alpha}) · it decides nothing here"
