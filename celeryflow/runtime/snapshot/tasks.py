"""What ran in a run as tasks that waited for each other: steps, items of maps, and what these added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from celeryflow.graph.model import Edge
from celeryflow.runtime.snapshot.expand import NO_OUTCOME, Floats, Ints, Rows
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.schedule import Schedule


@dataclass(frozen=True)
class Measured:
    """The tasks of a run, and which of them each row of its attempts is of, -1 for none.

    A task takes as long as all of its attempts together: those that failed, too, but not the waits between them.
    """

    schedule: Schedule
    task: Ints


def measured(snapshot: Snapshot, rows: Rows) -> Measured:
    """The tasks of a run from its attempts; those under way take what they took by the latest event.

    A step is a task, and so are an item of a map and the reading of its length. Others, of no time, stand where many
    meet: at the end of a map, of which its users wait for all, and at begin and end of what an item added to the run.
    """
    wiring = _Wiring()
    for record in snapshot.steps:
        wiring.add(record)
    for record in snapshot.steps:
        wiring.wire(record)
    task = wiring.tasks_of(rows, max(snapshot.nodes, default=-1) + 1)
    spent = np.where(rows.outcome == NO_OUTCOME, (snapshot.last_at or 0.0) - rows.started_at, rows.duration_s)
    known = (task >= 0) & (spent > 0)
    duration_s = np.bincount(task[known], weights=spent[known], minlength=wiring.size)
    before, after = wiring.edges()
    return Measured(Schedule(duration_s.tolist(), before, after), task)


@dataclass(frozen=True)
class Path:
    """The longest chain of what ran: each place on it is a step, an item, or the reading of a map's length.

    `place` is that of each row of the attempts, -1 for what is not on the path; `duration_s` is what each place took.
    """

    schedule: Schedule
    place: Ints
    duration_s: Floats


def critical_path(snapshot: Snapshot, rows: Rows) -> Path:
    """The longest chain by the running times that were measured, and the schedule of all that ran."""
    found = measured(snapshot, rows)
    path = np.array(found.schedule.critical_path, dtype=np.int64)
    path = path[np.isin(path, found.task)]
    places = np.full(len(found.schedule.duration_s) + 1, -1)
    places[path] = np.arange(len(path))
    return Path(found.schedule, places[found.task], np.array(found.schedule.duration_s)[path])


@dataclass
class _Place:
    """The tasks of a node: what comes before all of it, its items from `first` on, and what comes after all of it."""

    record: StepRecord
    enter: int
    first: int
    leave: int
    entries: dict[int, int] = field(default_factory=dict)
    """By item, where what it added begins."""
    parts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """By item, the latest part that it added: its first node, and the tasks in which that begins and ends."""

    @property
    def size(self) -> int:
        return self.record.length or 0

    def items(self, count: int) -> Ints:
        """Where the first items begin."""
        found = np.arange(self.first, self.first + count)
        for item, entry in self.entries.items():
            if item < count:
                found[item] = entry
        return found


class _Wiring:
    def __init__(self) -> None:
        self.size = 0
        self.places: dict[int, _Place] = {}
        self._one: list[tuple[int, int]] = []
        self._many: list[tuple[Ints, Ints]] = []

    def _new(self, count: int = 1) -> int:
        self.size += count
        return self.size - count

    def add(self, record: StepRecord) -> None:
        """Make the tasks of a node; and, of one that an item added, those in which that begins and ends."""
        node = record.node
        if node.is_map:
            enter, first, leave = self._new(), self._new(record.length or 0), self._new()
        else:
            enter = first = leave = self._new()
        self.places[node.index] = _Place(record, enter, first, leave)
        if node.parent >= 0 and record.part[1] >= 0:
            begin, end = self._part(self.places[node.parent], *record.part)
            self._one += [(begin, enter), (leave, end)]

    def _part(self, parent: _Place, item: int, first: int) -> tuple[int, int]:
        """Begin and end of a part; a further one of the same item begins where the one before ended."""
        known = parent.parts.get(item)
        if known is not None and known[0] == first:
            return known[1:]
        begin, end = self._new(), self._new()
        if known is None:
            parent.entries[item] = begin
        else:
            self._one.append((known[2], begin))
        parent.parts[item] = first, begin, end
        return begin, end

    def wire(self, record: StepRecord) -> None:
        """Connect a node with what it waits for, and its items with its begin and end."""
        place = self.places[record.node.index]
        if record.node.is_map:
            items = np.arange(place.first, place.first + place.size)
            self._one.append((place.enter, place.leave))
            self._many += [
                (np.full(place.size, place.enter), place.items(place.size)),
                (items, np.full(place.size, place.leave)),
            ]
        for item, (_, _, end) in place.parts.items():
            if item < place.size:
                self._one.append((end, place.first + item))
        enter = place.enter if record.node.is_map else place.entries.get(0, place.enter)
        for source, edge in record.inputs:
            given = self.places[source.node.index]
            if edge is Edge.ITEMS and record.node.is_map and source.node.is_map:
                count = min(place.size, given.size)
                self._many.append((np.arange(given.first, given.first + count), place.items(count)))
            else:
                self._one.append((given.enter if edge is Edge.LENGTH else given.leave, enter))

    def edges(self) -> tuple[Ints, Ints]:
        """All of them: what is waited for, and what waits."""
        one = np.array(self._one, dtype=np.int64).reshape(-1, 2)
        return _joined([one[:, 0], *(b for b, _ in self._many)]), _joined([one[:, 1], *(a for _, a in self._many)])

    def tasks_of(self, rows: Rows, nodes: int) -> Ints:
        """The task of each attempt; -1 where it is of an item that a resume did not find again."""
        enter, first, size = (np.zeros(nodes, dtype=np.int64) for _ in range(3))
        for index, place in self.places.items():
            enter[index], first[index], size[index] = place.enter, place.first, place.size
        task = np.where(rows.item < 0, enter[rows.node], first[rows.node] + rows.item)
        return np.where(rows.item < size[rows.node], task, -1)


def _joined(parts: Iterable[Ints]) -> Ints:
    return np.concatenate([*parts])
