"""What a picture shows: a box a step, or a box a group where there are too many, and the arrows."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

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
_LABEL_LIMIT, _LENGTH = 30, 10_000


class Told(NamedTuple):
    """What the box of a step says before anything runs: its second line, and what hovering shows."""

    note: str
    title: str


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
    opens : str or None
        The phase whose steps it stands for all together: what a click on it opens.
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
    opens: str | None
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
    opened : frozenset of str
        Those of them that are framed because they were opened; empty where all are.
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
    opened: frozenset[str]
    span: int
    fits: bool
    merged: str


def drawing(
    graph: Graph,
    snapshot: Snapshot | None = None,
    now: float | None = None,
    opened: frozenset[str] = frozenset(),
    told: Mapping[int, Told] = MappingProxyType({}),
) -> Drawing:
    """What to draw of a workflow, in the states of a run where one is given.

    Steps are a box each while there are few. Above `MAX_BOXES` or `MAX_SPAN` each phase becomes one box, and
    uses of one step outside of phases share one.

    Parameters
    ----------
    opened : frozenset of str
        Phases that are drawn step by step nevertheless; if that is too many, by the uses of a step in them; if
        that is too many still, not.
    told : mapping of int to Told
        What boxes say before the run, by the indices of the steps.
    """
    seen = Snapshot(graph, "") if snapshot is None else snapshot
    for grouping in _groupings(graph, opened):
        groups = _grouped(seen.top, grouping)
        is_firm = _arrows(graph, groups)
        arrows = tuple(is_firm)
        span = _span(len(groups), arrows)
        fits = len(groups) <= MAX_BOXES and span <= MAX_SPAN
        if fits:
            break
    at = _time(seen, now)
    boxes = tuple(
        _box(f"n{place}", records, at, *grouping.place_of(records), told.get(records[0].node.index))
        for place, records in enumerate(groups)
    )
    return Drawing(
        name=graph.name,
        boxes=boxes,
        arrows=arrows,
        loose=frozenset(place for place, arrow in enumerate(arrows) if not is_firm[arrow]),
        phases=grouping.framed,
        opened=frozenset() if grouping.is_all else frozenset(grouping.framed),
        span=span,
        fits=fits,
        merged=_merged(len(seen.top), len(boxes)),
    )


def refreshed(drawn: Drawing, snapshot: Snapshot, now: float | None = None, touched: Set[int] | None = None) -> Drawing:
    """The same boxes, as wide as they were, in the states of now: far cheaper than to arrange them anew.

    `touched` are the steps of which something was heard since; None for all. The boxes of these are made anew, and
    those that run, whose time goes on.
    """
    at = _time(snapshot, now)

    def again(box: Box) -> Box:
        if touched is not None and box.status not in _GOING_ON and touched.isdisjoint(box.nodes):
            return box
        records = [snapshot.record_of(node) for node in box.nodes]
        return replace(_box(box.id, records, at, box.phase, box.opens), width=box.width)

    return replace(drawn, boxes=tuple(map(again, drawn.boxes)))


_GOING_ON = (State.RUNNING, State.RETRYING)


def _time(seen: Snapshot, now: float | None) -> float:
    return now if now is not None else (seen.last_at or 0.0)


def _merged(steps: int, boxes: int) -> str:
    groups = "1 group" if boxes == 1 else f"{words.number(boxes)} groups"
    return f"{words.number(steps)} steps drawn as {groups}" if boxes < steps else ""


@dataclass(frozen=True)
class _Grouping:
    """Which steps share a box: none, or those of a phase that is not `framed` and, by use, those in no phase."""

    framed: tuple[str, ...]
    is_all: bool = False
    is_by_use: bool = False

    def __call__(self, record: StepRecord) -> Hashable:
        phase = record.node.phase
        is_alone = self.is_all or (phase in self.framed and not self.is_by_use)
        if is_alone:
            return record.node.index
        return phase if phase is not None and phase not in self.framed else (phase, record.node.spec.name)

    def place_of(self, records: list[StepRecord]) -> tuple[str | None, str | None]:
        """The phase that a box is drawn in, and the one that it stands for."""
        phase = records[0].node.phase
        if self.is_all or phase is None or phase in self.framed:
            return phase, None
        return None, phase if len(records) > 1 else None


def _groupings(graph: Graph, opened: frozenset[str]) -> Iterator[_Grouping]:
    """From the finest to the coarsest."""
    yield _Grouping(graph.phases, is_all=True)
    framed = tuple(phase for phase in graph.phases if phase in opened)
    if framed:
        yield _Grouping(framed)
        yield _Grouping(framed, is_by_use=True)
    yield _Grouping(())


def _grouped(records: Iterable[StepRecord], grouping: _Grouping) -> list[list[StepRecord]]:
    members: dict[Hashable, list[StepRecord]] = {}
    for record in records:
        members.setdefault(grouping(record), []).append(record)
    return [*members.values()]


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


def _box(
    name: str, records: list[StepRecord], now: float, phase: str | None, opens: str | None, told: Told | None = None
) -> Box:
    first, is_one = records[0], len(records) == 1
    summary = summarise(first.node.name, records, now)
    if is_one:
        label, note = words.label(first), told.note if told else words.note(first, now)
    else:
        label = f"{words.plain(opens or first.node.spec.label, 60)} ({words.number(len(records))} steps)"
        note = _note_of_group(summary)
    shown, status = words.plain(label, _LABEL_LIMIT), first.status if is_one else summary.status
    return Box(
        id=name,
        nodes=summary.nodes,
        label=shown,
        note=note,
        title=told.title if is_one and told else _title(label, note, status, words.reused(summary)),
        status=status,
        phase=phase,
        opens=opens,
        width=_width(first, shown, summary, is_one, note if told else ""),
        done_share=summary.done_share,
        failed_share=summary.failed_share,
        is_many=not is_one or first.node.is_map,
    )


def _title(label: str, note: str, status: State, reused: str) -> str:
    remarks = [part for part in (note, reused if not note.endswith(reused) else "") if part not in ("", str(status))]
    return ", ".join([f"{label}: {status}", *remarks])


def _note_of_group(summary: Summary) -> str:
    if summary.reused == summary.items > 0:
        return f"{words.number(summary.reused)} reused"
    failed = f" · {words.number(summary.failed)} {words.GLYPHS[State.FAILURE]}" if summary.failed else ""
    return words.count(summary) + failed


def _width(first: StepRecord, label: str, summary: Summary, is_one: bool, told: str) -> float:
    """Room for the label, for what is told before the run, and for the longest note that a run can write."""
    # A length that a worker finds out is not to move the picture when it comes.
    is_found_out = is_one and first.node.is_map and (first.length is None or first.length_at is not None)
    items = max(summary.items, _LENGTH if is_found_out else 0)
    most, is_many = words.number(items), not is_one or first.node.is_map
    note = f"{most} / {most} · {most} ✕" if is_many else "retry 2 of 3"
    note += " · 1,000 inside" if is_one and first.node.role is Role.EXPAND else ""
    if is_found_out and not label.endswith("…"):
        label = f"{label.rpartition(' ')[0]} {most}"
    text = max(text_width(label, LABEL_SIZE, is_bold=True), text_width(note, NOTE_SIZE), text_width(told, NOTE_SIZE))
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
