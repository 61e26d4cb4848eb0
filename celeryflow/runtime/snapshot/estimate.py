"""How long a run may still take, by what its steps took so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import fsum

from celeryflow.graph.model import Role
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.open_items import LENGTH_ONLY
from celeryflow.runtime.snapshot.record import StepRecord

UNTIMED = (Role.DECIDE, Role.GATHER, Role.PICK)
"""What such nodes do is not the user's work: until measured it takes no time."""


def remaining_s(snapshot: Snapshot, now: float | None = None) -> float | None:
    """Seconds until the run ends, about; None while that cannot be told, and once it has ended.

    Each item left takes what its step's items took on average; where none has ended, what the same function took in
    other steps; else what other steps took, or other maps' items. All of that is shared by the workers that
    hold something now, and is no shorter than the longest chain of steps left (Graham's two bounds). What is tried
    again begins when its delay is over, and what needs it after that; while all wait for that, those count as workers
    that tried last.

    It cannot be told before anything has ended, while nobody works, while the length of a map is not known, or while
    no item of any map has ended and one is to come. Steps that branches may leave out count, as do not those that
    loops may add.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    now : float or None
        The server's time, in seconds since 1970 UTC; None for the latest event's.
    """
    now = now if now is not None else (snapshot.last_at or 0.0)
    workers = {claim.worker for record in snapshot.steps for claim in record.open.claims.values()}
    workers = workers or {record.worker for record in snapshot.steps if _delay_s(record, now) > 0}
    if snapshot.status is not State.RUNNING or not workers:
        return None
    means = _Means(snapshot)
    work: list[float] = []
    ends: dict[int, float] = {}
    for record in _inputs_first(r for r in snapshot.steps if r.ended_as is None):
        mean_s = means.of(record)
        if mean_s is None or record.length is None:
            return None
        node, waiting = record.node, _waiting(record)
        running = [*_running_s(record, mean_s, now)]
        work += [*running, waiting * mean_s]
        before = max((ends.get(given.node, 0.0) for given in node.inputs), default=0.0)
        own = max([mean_s if waiting else 0.0, *running])
        ends[node.index] = before + max(own, ends.get(node.index, 0.0))
        if delay_s := _delay_s(record, now):
            ends[node.index] = max(ends[node.index], delay_s + mean_s)
        if node.parent >= 0:
            ends[node.parent] = max(ends.get(node.parent, 0.0), ends[node.index])
    return max([fsum(work) / len(workers), *ends.values()])


class Countdown:
    """The seconds left of a run, estimated anew every now and then and counted down in between: asking is cheap."""

    def __init__(self, every_s: float = 2.0) -> None:
        self._every_s, self._estimated_at = every_s, float("-inf")
        self._left_s: float | None = None

    def left_s(self, snapshot: Snapshot, now: float) -> float | None:
        """As of `remaining_s`."""
        if now - self._estimated_at > self._every_s or snapshot.status.is_terminal:
            self._left_s, self._estimated_at = remaining_s(snapshot, now), now
        return None if self._left_s is None else max(0.0, self._left_s - (now - self._estimated_at))


def _inputs_first(records: Iterable[StepRecord]) -> list[StepRecord]:
    """What a node added comes before it, and all comes after its inputs."""
    return sorted(records, key=lambda record: (-record.node.depth, record.node.index))


def _running_s(record: StepRecord, mean_s: float, now: float) -> Iterator[float]:
    for start, claim in record.open.claims.items():
        if start != LENGTH_ONLY:
            yield max(0.0, claim.size * mean_s - max(0.0, now - claim.at))


def _waiting(record: StepRecord) -> int:
    """Items that nobody holds. What has become steps of its own is not among them."""
    expanded = sum(state is State.RUNNING for item, state in record.open.waiting.items() if item != LENGTH_ONLY)
    return max(0, record.pending + record.retrying - expanded)


def _delay_s(record: StepRecord, now: float) -> float:
    """Until the last of its items that are tried again may begin; 0 where none has to wait for that."""
    delays = (again.at + again.delay_s - now for item, again in record.again.items() if item in record.open.waiting)
    return max([0.0, *delays])


class _Means:
    """Mean seconds of an item with all of its attempts: of each step, of each function, of other steps and maps."""

    def __init__(self, snapshot: Snapshot) -> None:
        inside = _inside_s(snapshot)
        self._steps: dict[int, float] = {}
        totals: dict[str, tuple[float, int]] = {}
        kinds: dict[bool, list[float]] = {False: [], True: []}
        for record in snapshot.steps:
            ended = record.done - record.reused + record.failed
            if not ended:
                continue
            node, spent = record.node, record.work_s + inside.get(record.node.index, 0.0)
            self._steps[node.index] = spent / ended
            before, count = totals.get(node.spec.name, (0.0, 0))
            totals[node.spec.name] = before + spent, count + ended
            if node.role not in UNTIMED:
                kinds[node.is_map].append(spent / ended)
        self._functions = {name: spent / ended for name, (spent, ended) in totals.items()}
        self._kinds = {is_map: fsum(found) / len(found) for is_map, found in kinds.items() if found}

    def of(self, record: StepRecord) -> float | None:
        """Of a step that has not ended."""
        node = record.node
        known = self._steps.get(node.index, self._functions.get(node.spec.name))
        if known is not None or node.role in UNTIMED:
            return known or 0.0
        # A map may be of very many items: a step's time says nothing of each.
        return self._kinds.get(node.is_map, None if node.is_map else self._kinds.get(True))


def _inside_s(snapshot: Snapshot) -> dict[int, float]:
    """Seconds that the steps which a node added have worked, and those that these added."""
    found: dict[int, float] = {}
    for record in snapshot.steps:
        above = record.node.parent
        while above >= 0:
            found[above] = found.get(above, 0.0) + record.work_s
            above = snapshot.nodes[above].parent
    return found
