"""What the browser is told of a run: its picture once, and how it stands as plain data."""

from __future__ import annotations

from typing import Any, NamedTuple

from celeryflow.graph.model import Graph
from celeryflow.graph.states import STATE_BYTES, State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.summary import Summary
from celeryflow.view import words
from celeryflow.view.boxes import Box, Drawing, drawing
from celeryflow.view.dot import bare
from celeryflow.view.layout import lay_out
from celeryflow.view.live.follower import Look
from celeryflow.view.rows import rows
from celeryflow.view.svg import render

BYTES = {state: byte for byte, state in STATE_BYTES.items()}

Mark = tuple[str, str, str, float, float]
"""What may change of a box beside its state: its two lines, its title, and the shares that succeeded and failed."""

SIGNS = {byte: [state.value, words.GLYPHS[state]] for byte, state in STATE_BYTES.items()}
"""Name and sign of each state, by the byte that stands for it."""


class Early(NamedTuple):
    """A workflow as it is drawn before its run has begun."""

    graph: Graph
    drawn: Drawing
    picture: dict[str, Any]


def early(graph: Graph) -> Early:
    """What can be had ready of a run's picture while the run is submitted."""
    drawn = drawing(graph)
    return Early(graph, drawn, picture(drawn))


def picture(drawn: Drawing) -> dict[str, Any]:
    """What stays while a run goes on: the SVG without colours, the arrows by their boxes, and what can be opened."""
    layout = lay_out(bare(drawn)) if drawn.fits else None
    return {
        "svg": "" if layout is None else render(drawn, layout, is_styled=False),
        "arrows": [list(arrow) for arrow in drawn.arrows],
        "frames": [] if layout is None else [drawn.phases[at] for at in sorted(layout.phases)],
        "opens": {str(at): box.opens for at, box in enumerate(drawn.boxes) if box.opens is not None},
        "opened": sorted(drawn.opened),
        "remark": drawn.merged,
    }


def states(drawn: Drawing) -> str:
    """One byte a box."""
    return "".join(BYTES[box.status] for box in drawn.boxes)


def mark(box: Box) -> Mark:
    """What else a box shows. A thousandth of a bar is less than a pixel."""
    return box.label, box.note, box.title, round(box.done_share, 3), round(box.failed_share, 3)


def head(look: Look, drawn: Drawing, left_s: float | None) -> dict[str, Any]:
    """The line over the picture, and what can be done; the run may still take `left_s` seconds."""
    status = look.snapshot.status
    return {
        "status": status.value,
        "sign": words.GLYPHS[status],
        "facts": words.facts(look.snapshot, look.now, left_s),
        "is_over": look.is_over,
        "can_retry": status in (State.FAILURE, State.CANCELLED),
        "failed": _failed_box(look.snapshot, drawn),
        "trouble": words.plain(look.trouble, 500),
    }


def _failed_box(snapshot: Snapshot, drawn: Drawing) -> int:
    """The box of what failed first, or of the step that added it; -1 for none."""
    _, node = snapshot.first_failure()
    while node >= 0 and snapshot.nodes[node].depth:
        node = snapshot.nodes[node].parent
    return next((at for at, box in enumerate(drawn.boxes) if node in box.nodes), -1) if node >= 0 else -1


def table(look: Look) -> list[dict[str, Any]]:
    """A row a phase, or a step that is in none."""
    listed, more = rows(look.snapshot, look.now)
    last = [{"name": f"… and {words.number(more)} more"}] if more else []
    return [*map(_row, listed), *last]


def _row(row: Summary) -> dict[str, Any]:
    return {
        "name": words.plain(row.name, 60),
        "status": row.status.value,
        "sign": words.GLYPHS[row.status],
        "done": round(row.done_share, 3),
        "failed": round(row.failed_share, 3),
        "other": round(max(0.0, row.progress - row.done_share - row.failed_share), 3),
        "ended": round(row.progress, 3),
        "note": words.reused(row),
        "trouble": words.troubles(row),
        "count": words.count(row),
        "time": words.seconds(row.duration_s),
    }
