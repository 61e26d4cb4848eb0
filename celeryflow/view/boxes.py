"""What a picture shows: a box a step, or a box a group where there are too many, and the arrows."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable
from dataclasses import dataclass

from celeryflow.graph.model import Edge, Graph, Role
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.summary import Summary, summarise
from celeryflow.view import words

MAX_BOXES = 500
"""Above it steps are merged: more boxes can hardly be read, and are megabytes in a saved notebook."""

MAX_SPAN = 5_000
"""Above this many ranks that arrows cross, steps are merged.

They and not the arrows are what a layout costs: 0.3 s at 5,000 (200 steps with 4 inputs from anywhere
before them), 1 s at 10,000, over a minute at 36,000 (60 steps that each need all before them).
"""

BOX_HEIGHT, LABEL_X, LABEL_SIZE, NOTE_SIZE = 36.0, 26.0, 11.0, 10.0
_LABEL_LIMIT = 30


@dataclass(frozen=True, slots=True)
class Box:
    """One box: a step, or several of them.

    Attributes
    ----------
    id : str
        ``n`` and its number, nothing that a user wrote.
    nodes : tuple of int
        Indices of its steps in the graph.
    label, note, title : str
        First line, second line, and what hovering shows.
    status : State
        State of the step, or of the group together.
    phase : str or None
        The phase that it is drawn in.
    width : float
        In pixels; independent of the state, so that a run does not move its picture.
    done_share, failed_share : float
        Shares of 0 to 1 of its items.
    is_many : bool
        It stands for several executions, so it has a bar.
    """

    id: str
    nodes: tuple[int, ...]
    label: str
    note: str
    title: str
    status: State
    phase: str | None
    width: float
    done_share: float
    failed_share: float
    is_many: bool

    @property
    def glyph(self) -> str:
        """The sign of its state."""
        return words.GLYPHS[self.status]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes, and the arrows between them.

    Attributes
    ----------
    name : str
        Of the workflow.
    boxes : tuple of Box
        In the order of their first steps.
    arrows : tuple of (int, int)
        From and to, by the places of the boxes.
    loose : frozenset of int
        Arrows, by their places, along which a box waits for an end, however that comes, or for a decision.
    phases : tuple of str
        The phases to frame, in order.
    span : int
        Ranks that the arrows cross, all together.
    fits : bool
        Whether it can be laid out in good time and read.
    merged : str
        What was merged, in words; else empty.
    """

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[int, int], ...]
    loose: frozenset[int]
    phases: tuple[str, ...]
    span: int
    fits: bool
    merged: str


def drawing(
    graph: Graph, snapshot: Snapshot | None = None, now: float | None = None, max_boxes: int = MAX_BOXES
) -> Drawing:
    """What to draw of a workflow, in the states of a run where one is given.

    Steps become a box each while there are few. Above `max_boxes` or `MAX_SPAN`, uses of
    one step in a phase share a box; if that is too many still, whole phases do.
    """
    seen = Snapshot(graph, "") if snapshot is None else snapshot
    at = now if now is not None else (seen.last_at or 0.0)
    for group in (_by_step, _by_use, _by_phase):
        members: dict[Hashable, list[StepRecord]] = {}
        for record in seen.top:
            members.setdefault(group(record), []).append(record)
        is_firm = _arrows(graph, list(members.values()))
        arrows = tuple(is_firm)
        span = _span(len(members), arrows)
        fits = len(members) <= max_boxes and span <= MAX_SPAN
        if fits:
            break
    is_phase = group is _by_phase
    phases = () if is_phase else graph.phases
    boxes = tuple(
        _box(f"n{place}", records, at, bool(phases), is_phase) for place, records in enumerate(members.values())
    )
    loose = frozenset(place for place, arrow in enumerate(arrows) if not is_firm[arrow])
    return Drawing(graph.name, boxes, arrows, loose, phases, span, fits, _merged(len(seen.top), len(boxes)))


def _merged(steps: int, boxes: int) -> str:
    groups = "1 group" if boxes == 1 else f"{words.number(boxes)} groups"
    return f"{words.number(steps)} steps drawn as {groups}" if boxes < steps else ""


def _by_step(record: StepRecord) -> Hashable:
    return record.node.index


def _by_use(record: StepRecord) -> Hashable:
    return record.node.phase, record.node.spec.name


def _by_phase(record: StepRecord) -> Hashable:
    return record.node.phase or _by_use(record)


def _arrows(graph: Graph, groups: list[list[StepRecord]]) -> dict[tuple[int, int], bool]:
    """Arrows between boxes, each once, none from a box to itself; and whether a value that is needed goes that way."""
    place = {record.node.index: at for at, records in enumerate(groups) for record in records}
    found: dict[tuple[int, int], bool] = {}
    for node in graph.nodes:
        for given in node.inputs:
            arrow = place[given.node], place[node.index]
            if given.edge is not Edge.LENGTH and arrow[0] != arrow[1]:
                found[arrow] = found.get(arrow, False) or given.edge not in (Edge.ENDED, Edge.CHOICE)
    return found


def _span(boxes: int, arrows: tuple[tuple[int, int], ...]) -> int:
    rank = [0] * boxes
    # Nodes are in topological order, but merging may have made a cycle: an estimate will do.
    for tail, head in sorted(arrows, key=lambda arrow: arrow[1]):
        rank[head] = max(rank[head], rank[tail] + 1)
    return sum(abs(rank[head] - rank[tail]) for tail, head in arrows)


def _box(name: str, records: list[StepRecord], now: float, has_phases: bool, is_phase: bool) -> Box:
    first = records[0]
    summary = summarise(first.node.name, records, now)
    is_one = len(records) == 1
    if is_one:
        label, note = words.label(first), words.note(first, now)
    else:
        group = first.node.phase if is_phase and first.node.phase else first.node.spec.label
        label, note = f"{words.plain(group, 60)} ({words.number(len(records))} steps)", _note_of_group(summary)
    shown, status = words.plain(label, _LABEL_LIMIT), first.status if is_one else summary.status
    reused = words.reused(summary)
    remarks = [part for part in (note, reused if not note.endswith(reused) else "") if part not in ("", str(status))]
    return Box(
        id=name,
        nodes=summary.nodes,
        label=shown,
        note=note,
        title=", ".join([f"{label}: {status}", *remarks]),
        status=status,
        phase=first.node.phase if has_phases else None,
        width=_width(shown, summary, not is_one or first.node.is_map, is_one and first.node.role is Role.EXPAND),
        done_share=summary.done_share,
        failed_share=summary.failed_share,
        is_many=not is_one or first.node.is_map,
    )


def _note_of_group(summary: Summary) -> str:
    if summary.reused == summary.items > 0:
        return f"{words.number(summary.reused)} reused"
    failed = f" · {words.number(summary.failed)} {words.GLYPHS[State.FAILURE]}" if summary.failed else ""
    return words.count(summary) + failed


def _width(label: str, summary: Summary, is_many: bool, is_expanded: bool) -> float:
    """Room for the label and for the longest note that a run can write."""
    most = words.number(summary.items)
    note = f"{most} / {most} · {most} ✕" if is_many else "retry 2 of 3"
    note += " · 1,000 inside" if is_expanded else ""
    text = max(text_width(label, LABEL_SIZE, is_bold=True), text_width(note, NOTE_SIZE))
    return round(LABEL_X + text + 12.0, 1)


def text_width(text: str, size: float, is_bold: bool = False) -> float:
    """Roughly how wide a text is drawn in a sans-serif font, in pixels; rather too wide than too narrow."""
    return sum(map(_character_width, text)) * size * (1.12 if is_bold else 1.0)


def _character_width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.1
    if character in "iljtfrI.,:;'|!()[]/ ·-":
        return 0.4
    return 0.85 if character in "mwMW@%✕_◇⊞" + words.TIMES else 0.68 if character.isupper() else 0.6
