"""How the charts of comparisons look: on a light page and on a dark one, and to people who see few colours.

No background is given, so that the theme of the page decides, and text is light where that is dark. Every colour of a
mark has a contrast of 3 to 1 or more both with white and with the ground of Vega's dark theme (#333).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import altair as alt

from celeryflow.view.offline import Offline, inert

WIDTH, ROW, GAP = 560, 24, 28
DASH, SPACE = "\N{EN DASH}", "\N{EM SPACE}"
GREY, BLUE, GREEN, ORANGE = "#828c99", "#2a87d0", "#109a70", "#d55e00"

Align = Literal["left", "center", "right"]

INK = alt.ExprRef("background && background != 'transparent' && 0.4 > luminance(background) ? '#ffffff' : '#1c2430'")
"""Of text in a chart: `background` is a signal of Vega's."""

CHARACTER = 6.0
"""Width of a letter of a label, in pixels, more or less."""

LOG_RATIO = 30.0
"""Values that lie further apart than this have a logarithmic axis."""


class Charts(Offline, alt.VConcatChart):
    """Charts below each other."""


def stacked(found: Sequence[Any], title: str, remark: str = "") -> Charts:
    """Charts below each other, under one title."""
    said = inert(title, 160)
    head = alt.TitleParams(said, subtitle=inert(remark, 400) or alt.Undefined, anchor="start", fontSize=15, offset=14)
    return Charts(
        vconcat=list(found),
        title=head,
        description=f"{said}. {inert(remark, 400)}".strip(),
        spacing=GAP,
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(color="independent", shape="independent")),
        config=alt.Config(
            axis=alt.AxisConfig(
                gridColor=GREY, gridOpacity=0.25, domainColor=GREY, tickColor=GREY, titleFontWeight="normal"
            ),
            view=alt.ViewConfig(stroke=None),
            title=alt.TitleConfig(fontSize=12, subtitleFontSize=11, subtitleFontWeight="normal"),
        ),
    )


def titled(title: str, remark: str = "") -> alt.TitleParams:
    """The heading of one chart."""
    return alt.TitleParams(
        inert(title, 120), subtitle=inert(remark, 200) or alt.Undefined, anchor="start", frame="group", offset=8
    )


def drawn(values: Iterable[dict[str, Any]]) -> alt.Chart:
    """A chart of these rows; what is not finite, and JSON has no word for, is left out."""
    return alt.Chart(alt.InlineData(values=[{name: _json(value) for name, value in row.items()} for row in values]))


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def texts(chart: alt.Chart, text: str, align: Align = "left", **mark: Any) -> alt.Chart:
    """Text that can be read on any page."""
    found: alt.Chart = chart.mark_text(align=align, color=INK, fontSize=11, **mark).encode(text=f"{text}:N")
    return found


def labels(names: Sequence[str], limit: int = 36) -> list[str]:
    """Names that fit beside an axis, each its own: of a long one the beginning and the end.

    Examples
    --------
    >>> labels(["gradient boosted trees, shallow", "gradient boosted trees, deep"], 16)
    ['gradien…shallow', 'gradien…es, deep']
    """
    found: list[str] = []
    for name in names:
        said = inert(name, 200)
        half = (limit - 1) // 2
        short = said if len(said) <= limit else f"{said[:half].rstrip()}…{said[-half - (limit - 1) % 2 :].lstrip()}"
        found.append(short if short not in found else f"{short} ({len(found) + 1})")
    return found


def figures(value: float) -> str:
    """A number in a tooltip; text, since JSON has no infinity."""
    return DASH if math.isnan(value) else f"{value:.4g}".replace("inf", "∞").replace("-", "\N{MINUS SIGN}")


def span(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """From the least to the largest finite value, with a margin; never empty."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def is_wide(values: Iterable[float]) -> bool:
    """Whether positive values ask for a logarithmic axis."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) / min(known) > LOG_RATIO
