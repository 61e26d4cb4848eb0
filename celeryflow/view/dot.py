"""A workflow as DOT source: once for people, once for the engine that places the boxes."""

from __future__ import annotations

from collections.abc import Callable

from celeryflow.graph.model import Graph
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import words
from celeryflow.view.boxes import BOX_HEIGHT, Box, Drawing, drawing, text_width

_TANGLED = 1_500
_PIXELS_AN_INCH = 72.0

_COLOURS: dict[State, tuple[str, str, str]] = {
    State.PENDING: ("#d9dee6", "#ffffff", "#5d6878"),
    State.READY: ("#9aa6b6", "#ffffff", "#1c2430"),
    State.RUNNING: ("#1d5fc4", "#e6effc", "#1c2430"),
    State.RETRYING: ("#8a5a00", "#fdf1d8", "#1c2430"),
    State.SUCCESS: ("#15794a", "#e5f5ec", "#1c2430"),
    State.FAILURE: ("#b3261e", "#fce8e6", "#1c2430"),
    State.SKIPPED: ("#9aa6b6", "#f6f7f9", "#5d6878"),
    State.CANCELLED: ("#9aa6b6", "#f6f7f9", "#5d6878"),
}
"""Border, inside and text of a box in each state."""


def source(graph: Graph, snapshot: Snapshot | None = None) -> str:
    """DOT source of a workflow, coloured by a run's state where one is given.

    Ids are opaque, and what people wrote only stands in quoted, escaped labels.
    """
    return source_of(drawing(graph, snapshot))


def source_of(drawn: Drawing) -> str:
    """DOT source of a drawing."""
    head = [
        f"digraph {quoted(drawn.name)} {{",
        '  rankdir=LR; nodesep=0.22; ranksep=0.32; bgcolor="transparent"; fontname="sans-serif"',
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11, height=0.5]',
        '  edge [color="#9aa6b6", arrowsize=0.5]',
    ]
    return "\n".join([*head, *_clustered(drawn, _node, _phase), *_edges(drawn), "}", ""])


def bare(drawn: Drawing) -> str:
    """The same with sizes alone: no text of a user ever reaches a layout engine."""
    head = [
        "digraph g {",
        "  rankdir=LR; nodesep=0.22; ranksep=0.32; fontsize=10; labeljust=l",
        '  node [shape=box, fixedsize=true, label=""]; edge [arrowhead=none]',
        # Fewer rounds of polishing: four times as fast on tangled graphs, and not seen on them.
        "  nslimit=1; nslimit1=1; mclimit=0.3" if drawn.span > _TANGLED else "",
    ]
    return "\n".join([*head, *_clustered(drawn, _size, _room), *_edges(drawn), "}", ""])


def quoted(text: str, limit: int = 200) -> str:
    """A quoted DOT string that shows exactly this text, on one line."""
    escaped = words.plain(text, limit).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _clustered(drawn: Drawing, node: Callable[[Box], str], phase: Callable[[str], str]) -> list[str]:
    lines = [f"  {node(box)}" for box in drawn.boxes if box.phase not in drawn.phases]
    for at, name in enumerate(drawn.phases):
        inside = [node(box) for box in drawn.boxes if box.phase == name]
        if inside:
            lines += [f"  subgraph cluster_{at} {{ {phase(name)}", *(f"    {line}" for line in inside), "  }"]
    return lines


def _edges(drawn: Drawing) -> list[str]:
    dashed = dict.fromkeys(drawn.loose, ", style=dashed")
    return [f"  n{tail} -> n{head} [id=e{at}{dashed.get(at, '')}]" for at, (tail, head) in enumerate(drawn.arrows)]


def _node(box: Box) -> str:
    border, inside, text = _COLOURS[box.status]
    first = quoted(f"{box.glyph} {box.label}")[:-1]
    label = f"{first}\\n{quoted(box.note)[1:]}" if box.note else f'{first}"'
    return (
        f'{box.id} [id={box.id}, class="node {box.status}", label={label}, tooltip={quoted(box.title)}, '
        f'color="{border}", fillcolor="{inside}", fontcolor="{text}"]'
    )


def _phase(name: str) -> str:
    return f'label={quoted(name)}; labeljust=l; style="rounded,filled"; color="#f6f7f9"; fontsize=10'


def _size(box: Box) -> str:
    return f"{box.id} [width={box.width / _PIXELS_AN_INCH:.3f}, height={BOX_HEIGHT / _PIXELS_AN_INCH:.3f}]"


def _room(name: str) -> str:
    """A label of about the name's width, which the engine leaves room for."""
    return f'label="{"x" * max(1, round(text_width(phase_label(name), 10.0, is_bold=True) / 5.0))}"'


def phase_label(name: str) -> str:
    """Name of a phase as the picture shows it."""
    return words.plain(name, 40)
