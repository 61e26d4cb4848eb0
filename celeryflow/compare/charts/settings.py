"""A sweep in charts: the score against each parameter, against two at once, or lines through all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from celeryflow.compare.charts.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    ROW,
    WIDTH,
    Charts,
    drawn,
    figures,
    is_wide,
    labels,
    span,
    stacked,
    texts,
    titled,
)
from celeryflow.compare.contrast import Interval
from celeryflow.view.offline import inert
from celeryflow.view.words import counted

HEIGHT, MOST_PANELS, MOST_LINES, MOST_CELLS = 200, 6, 300, 64
MOST_TICKS = 10
"""Of so many values at most each has a tick, and their best scores a line."""

BAD, GOOD = 0.05, 0.8
"""Of the colour scale viridis, whose ends cannot be seen on a dark page and on a light one."""


class Axis(NamedTuple):
    """One parameter and its values in order; those that are no numbers are texts."""

    name: str
    values: list[Any]
    is_number: bool
    is_log: bool

    def shown(self, value: Any) -> Any:
        """What stands for a value in a chart."""
        return float(value) if self.is_number else label_of(value)

    def share(self, value: Any) -> float:
        """Where a value lies between the first and the last, 0 to 1."""
        if not self.is_number:
            return self.values.index(label_of(value)) / max(1, len(self.values) - 1)
        low, high, at = (
            math.log10(each) if self.is_log else each for each in (self.values[0], self.values[-1], float(value))
        )
        return (at - low) / (high - low) if high > low else 0.5


class Tried(NamedTuple):
    """What a sweep has given of one metric: settings, their means and intervals, and which is the best."""

    metric: str
    is_lower_better: bool
    settings: Sequence[Mapping[str, Any]]
    means: Sequence[float]
    intervals: Sequence[Interval]
    best: int | None
    held: tuple[float, Interval] | None

    @property
    def known(self) -> list[int]:
        """Settings with a score, the worst first: the better ones are drawn over them."""
        found = [at for at, mean in enumerate(self.means) if math.isfinite(mean)]
        return sorted(found, key=lambda at: self.means[at], reverse=self.is_lower_better)


def charts(tried: Tried, is_over: bool) -> Charts:
    """Charts of a sweep."""
    axes = [axis_of(name, [setting[name] for setting in tried.settings]) for name in tried.settings[0]]
    found: list[Any] = [_each(tried, axes)]
    if len(axes) == 2:
        found.append(_both(tried, *axes))
    elif len(axes) > 2:
        found.append(_all(tried, axes))
    title = f"{tried.metric} of {counted(len(tried.settings), 'setting')}"
    return stacked(found, title if is_over else f"So far: {title}", _remark(tried, axes))


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """The axis of a parameter that has these values."""
    is_number = all(isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool) for v in values)
    if is_number and all(math.isfinite(value) for value in values):
        numbers = sorted({float(value) for value in values})
        return Axis(inert(name, 60), numbers, True, is_wide(numbers))
    return Axis(inert(name, 60), list(dict.fromkeys(map(label_of, values))), False, False)


def label_of(value: Any) -> str:
    """A value that is no number, as a text."""
    said = f"{value:.4g}" if isinstance(value, float) else str(getattr(value, "__name__", value))
    return inert(said, 24)


def _remark(tried: Tried, axes: Sequence[Axis]) -> str:
    if tried.best is None:
        return "no setting without a failure"
    setting = tried.settings[tried.best]
    best = ", ".join(f"{name}={label_of(value)}" for name, value in setting.items())
    said = f"diamond: the best, {best}, with {figures(tried.means[tried.best])}"
    if tried.held is not None:
        said += f" · square: the same on the items held out, {figures(tried.held[0])}"
    return f"{said} · its score is optimistic, as the best of several" if tried.held is None else said


# --- one parameter ------------------------------------------------------------------------------


def _each(tried: Tried, axes: Sequence[Axis]) -> alt.ConcatChart:
    """The score against each parameter."""
    width = WIDTH if len(axes) == 1 else (WIDTH - 70) // 2
    panels = [_panel(tried, axis, width, at % 2 == 0) for at, axis in enumerate(axes[:MOST_PANELS])]
    more = f"{len(axes) - MOST_PANELS} more parameters are not drawn" if len(axes) > MOST_PANELS else ""
    is_lined = any(axis.is_number and len(axis.values) <= MOST_TICKS for axis in axes)
    lines = "bars: the interval of the mean" if len(axes) == 1 else "line: the best of each value" if is_lined else ""
    title = titled(
        "Score against each parameter" if len(axes) > 1 else "Score", " · ".join(filter(None, [lines, more]))
    )
    return alt.ConcatChart(concat=panels, columns=2, spacing=24, title=title)


def _panel(tried: Tried, axis: Axis, width: int, is_first: bool) -> alt.LayerChart:
    x, y = _x(axis, width), _score(tried, is_first)
    rows = [_row(tried, axis, at) for at in tried.known]
    base = drawn(rows).encode(x=x, y=y)
    layers = [base.mark_point(filled=True, size=36, opacity=0.5, color=GREY).encode(tooltip=TIPS)]
    if axis.is_number and (len(axis.values) <= MOST_TICKS or width == WIDTH):
        line = drawn(_profile(tried, axis)).encode(x=x, y=y)
        layers.append(line.mark_line(color=BLUE, strokeWidth=2))
    if width == WIDTH:
        ends = _score(tried, is_first, "low")
        layers.append(drawn(rows).mark_rule(color=GREY).encode(x=x, y=ends, y2="high:Q"))
    layers += _marks(tried, axis, x, y)
    return alt.LayerChart(layer=layers, width=width, height=HEIGHT)


def _marks(tried: Tried, axis: Axis, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The best, and what it gave on items held out."""
    if tried.best is None:
        return []
    row = _row(tried, axis, tried.best)
    best = drawn([row]).encode(x=x, y=y, tooltip=TIPS)
    layers = [best.mark_point(filled=True, shape="diamond", size=160, opacity=1, color=GREEN)]
    if tried.held is not None:
        mean, interval = tried.held
        given = {**row, "score": mean, "mean": figures(mean), "interval": " to ".join(map(figures, interval))}
        held = drawn([given]).encode(x=x, y=y, tooltip=TIPS)
        layers.append(held.mark_point(shape="square", size=110, strokeWidth=2.5, opacity=1, color=ORANGE))
    return layers


TIPS = ["setting:N", "mean:N", "interval:N"]


def _row(tried: Tried, axis: Axis, at: int) -> dict[str, Any]:
    mean, (low, high), setting = tried.means[at], tried.intervals[at], tried.settings[at]
    bottom, top = _ends(tried)
    return {
        "value": axis.shown(_given(setting, axis)),
        "score": mean,
        "low": max(low, bottom),
        "high": min(high, top),
        "setting": ", ".join(f"{inert(name, 60)}={label_of(value)}" for name, value in setting.items()),
        "mean": figures(mean),
        "interval": f"{figures(low)} to {figures(high)}",
    }


def _given(setting: Mapping[str, Any], axis: Axis) -> Any:
    return next(value for name, value in setting.items() if inert(name, 60) == axis.name)


def _profile(tried: Tried, axis: Axis) -> list[dict[str, Any]]:
    """The best score of each value."""
    pick: Callable[[float, float], float] = min if tried.is_lower_better else max
    found: dict[float, float] = {}
    for at in tried.known:
        value = axis.shown(_given(tried.settings[at], axis))
        found[value] = pick(found.get(value, tried.means[at]), tried.means[at])
    return [{"value": value, "score": found[value]} for value in sorted(found)]


def _x(axis: Axis, width: int) -> alt.X:
    if not axis.is_number:
        room = width // max(2, len(axis.values))
        return alt.X("value:N", title=axis.name, sort=axis.values, axis=alt.Axis(labelAngle=0, labelLimit=room))
    return alt.X("value:Q", title=axis.name, scale=_scale(axis), axis=_ticks(axis))


def _ticks(axis: Axis) -> Any:
    """The values themselves where they are few; of a logarithmic axis the powers of ten."""
    if not axis.is_number:
        return alt.Axis()
    if len(axis.values) <= MOST_TICKS:
        return alt.Axis(values=axis.values, format=".4~g", labelOverlap=True)
    if axis.is_log:
        low, high = math.floor(math.log10(axis.values[0])), math.ceil(math.log10(axis.values[-1]))
        return alt.Axis(values=[10.0**power for power in range(low, high + 1)], format="~g", labelOverlap=True)
    return alt.Axis(labelOverlap=True)


def _scale(axis: Axis) -> Any:
    if not axis.is_number:
        return alt.Undefined
    low, high = span([math.log10(v) for v in axis.values] if axis.is_log else axis.values, 0.05)
    domain = [10**low, 10**high] if axis.is_log else [low, high]
    return alt.Scale(type="log" if axis.is_log else "linear", domain=domain, nice=False, zero=False)


def _ends(tried: Tried) -> tuple[float, float]:
    """Of the score's axis: the means, and intervals unless these are far wider."""
    held = [] if tried.held is None else [tried.held[0]]
    means = [*(mean for mean in tried.means if math.isfinite(mean)), *held] or [0.0]
    reach = 2.0 * (max(means) - min(means)) or math.inf
    near = [
        end for interval in tried.intervals for end in interval
        if math.isfinite(end) and min(means) - reach <= end <= max(means) + reach
    ] if len(tried.settings[0]) == 1 else []  # fmt: skip
    return span([*means, *near], 0.08)


def _score(tried: Tried, is_first: bool, field: str = "score") -> alt.Y:
    title = f"mean {inert(tried.metric, 40)}, {'lower' if tried.is_lower_better else 'higher'} is better"
    scale = alt.Scale(domain=list(_ends(tried)), nice=False, zero=False)
    return alt.Y(f"{field}:Q", title=title if is_first else None, scale=scale)


# --- two parameters -----------------------------------------------------------------------------


def _colour(tried: Tried) -> alt.Color:
    """Of a score: the better the brighter."""
    scheme = alt.SchemeParams(name="viridis", extent=[BAD, GOOD])
    known = [mean for mean in tried.means if math.isfinite(mean)] or [0.0]
    scale = alt.Scale(scheme=scheme, reverse=tried.is_lower_better, domain=[min(known), max(known)])
    return alt.Color("score:Q", scale=scale, legend=alt.Legend(title=inert(tried.metric, 40), gradientLength=120))


def _both(tried: Tried, first: Axis, second: Axis) -> alt.LayerChart:
    """A heat map of a grid; of settings at random their points."""
    places = {(label_of(_given(s, first)), label_of(_given(s, second))) for s in tried.settings}
    is_grid = len(places) == len(first.values) * len(second.values) == len(tried.settings)
    return _heat(tried, first, second) if is_grid else _scatter(tried, first, second)


def _heat(tried: Tried, first: Axis, second: Axis) -> alt.LayerChart:
    rows = [{**_row(tried, first, at), **_cell(tried, first, second, at)} for at in range(len(tried.settings))]
    x = alt.X("x:N", title=first.name, sort=[*map(_tick, first.values)], axis=alt.Axis(labelAngle=0))
    y = alt.Y("y:N", title=second.name, sort=[*map(_tick, reversed(second.values))])
    base = drawn(rows).encode(x=x, y=y)
    layers: list[alt.Chart] = [base.mark_rect().encode(color=_colour(tried), tooltip=TIPS)]
    if len(rows) <= MOST_CELLS and len(first.values) <= 10:
        written = base.mark_text(fontSize=11).encode(
            text="written:N", color=alt.condition("datum.is_bright", alt.value("#10151c"), alt.value("#ffffff"))
        )
        layers.append(written)
    if tried.best is not None:
        best = drawn([rows[tried.best]]).encode(x=x, y=y)
        layers.append(best.mark_rect(fill=None, stroke=INK, strokeWidth=3))
    title = titled("Both parameters", "framed: the best")
    return alt.LayerChart(
        layer=layers, width=WIDTH - 90, height=max(90, min(12, len(second.values)) * 1.4 * ROW), title=title
    )


def _cell(tried: Tried, first: Axis, second: Axis, at: int) -> dict[str, Any]:
    setting, known = tried.settings[at], [mean for mean in tried.means if math.isfinite(mean)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    share = (tried.means[at] - low) / (high - low) if high > low else 0.5
    bright = 1 - share if tried.is_lower_better else share
    return {
        "x": _tick(first.shown(_given(setting, first))),
        "y": _tick(second.shown(_given(setting, second))),
        "is_bright": bool(bright > 0.6),
        "written": figures(tried.means[at]) if math.isfinite(tried.means[at]) else "",
    }


def _tick(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _scatter(tried: Tried, first: Axis, second: Axis) -> alt.LayerChart:
    x = _x(first, WIDTH)
    rows = [{**_row(tried, first, at), "other": second.shown(_given(tried.settings[at], second))} for at in tried.known]
    kind = "Q" if second.is_number else "N"
    y = alt.Y(f"other:{kind}", title=second.name, scale=_scale(second), axis=_ticks(second))
    base = drawn(rows).encode(x=x, y=y, tooltip=TIPS)
    layers = [base.mark_point(filled=True, size=90, opacity=1).encode(color=_colour(tried))]
    if tried.best is not None:
        best = drawn([row for at, row in zip(tried.known, rows, strict=True) if at == tried.best])
        layers.append(best.mark_point(shape="diamond", size=260, strokeWidth=2, color=INK).encode(x=x, y=y))
    title = titled("Both parameters", "framed: the best")
    return alt.LayerChart(layer=layers, width=WIDTH - 90, height=HEIGHT, title=title)


# --- more of them -------------------------------------------------------------------------------


def _all(tried: Tried, axes: Sequence[Axis]) -> alt.LayerChart:
    """A line a setting through all parameters to its score (parallel coordinates)."""
    names = [*labels([axis.name for axis in axes], 16), inert(tried.metric, 16)]
    shown = tried.known[-MOST_LINES:]
    low, high = min(tried.means[at] for at in shown), max(tried.means[at] for at in shown)
    rows, ends = [], []
    for at in shown:
        said = _row(tried, axes[0], at)
        shares = [axis.share(_given(tried.settings[at], axis)) for axis in axes]
        shares.append((tried.means[at] - low) / (high - low) if high > low else 0.5)
        rows += [{**said, "line": at, "axis": name, "share": share} for name, share in zip(names, shares, strict=True)]
    for name, (first, last) in zip(names, [*map(_first_and_last, axes), (figures(low), figures(high))], strict=True):
        ends += [{"axis": name, "share": 0.0, "said": first, "dy": 1}, {"axis": name, "share": 1.0, "said": last}]
    x = alt.X("axis:N", sort=names, title=None, scale=alt.Scale(type="point", padding=0.3), axis=_UPRIGHT)
    y = alt.Y("share:Q", axis=None, scale=alt.Scale(domain=[-0.08, 1.08], nice=False))
    lines = drawn(rows).encode(x=x, y=y, detail="line:N", color=_colour(tried), tooltip=TIPS)
    opacity = max(0.25, min(0.9, 40 / len(shown)))
    layers: list[alt.Chart] = [lines.mark_line(strokeWidth=1.5, opacity=opacity)]
    if tried.best is not None:
        best = drawn([row for row in rows if row["line"] == tried.best])
        layers.append(
            best.mark_line(color=GREEN, strokeWidth=4, point=alt.OverlayMarkDef(color=GREEN, size=50)).encode(
                x=x, y=y, tooltip=TIPS
            )
        )
    for share, shift in ((0.0, 13), (1.0, -10)):
        where = drawn([end for end in ends if end["share"] == share])
        layers.append(texts(where, "said", "center", dy=shift).encode(x=x, y=y))
    left_out = f" · the best {len(shown)} of {len(tried.known)}" if len(shown) < len(tried.known) else ""
    title = titled("All parameters", f"a line a setting, thick: the best{left_out}")
    return alt.LayerChart(layer=layers, width=WIDTH - 90, height=HEIGHT + 40, title=title)


_UPRIGHT = alt.Axis(orient="top", labelAngle=0, grid=True, domain=False, ticks=False, labelPadding=6)


def _first_and_last(axis: Axis) -> tuple[str, str]:
    return _tick(axis.values[0]), _tick(axis.values[-1])
