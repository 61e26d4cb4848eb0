"""Who ran what when: the attempts of each worker, few enough to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from celeryflow.runtime.snapshot.attempts import OUTCOMES, Outcome
from celeryflow.runtime.snapshot.expand import NO_OUTCOME, Floats, Ints, Rows, ready_at
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.tasks import Path

SEVERAL = -1


@dataclass(slots=True)
class Span:
    """Attempts that a worker ran one after the other, drawn as one. Times are seconds since the run's submit.

    Attributes
    ----------
    node : int
        Whose attempts they are; `SEVERAL` for steps of different names.
    item, last_item, count : int
        The first and the last of them, by their items (-1: the reading of a map's length), and how many there are.
    ready_s, started_s, finished_s : float
        Since when the first could have begun, when it did, and when the last ended, or the latest event's time.
    busy_s : float
        Sum of their running times.
    outcome : Outcome or None
        How they ended: `success`, or how the latest did that ended otherwise; None while the last one runs.
    attempt : int
        The highest number of an attempt among them.
    """

    worker: str
    node: int
    item: int
    last_item: int
    count: int
    ready_s: float
    started_s: float
    finished_s: float
    busy_s: float
    outcome: Outcome | None
    attempt: int

    def take(self, other: Span) -> None:
        """Go on with what the same worker ran next."""
        self.node = self.node if self.node == other.node else SEVERAL
        self.last_item, self.count, self.attempt = other.item, self.count + 1, max(self.attempt, other.attempt)
        self.ready_s, self.finished_s = min(self.ready_s, other.ready_s), max(self.finished_s, other.finished_s)
        self.busy_s += other.busy_s
        self.outcome = self.outcome if other.outcome is Outcome.SUCCESS else other.outcome


@dataclass(frozen=True)
class Lanes:
    """What is drawn: all spans, those of the critical path alone, and when the run was resumed, in seconds."""

    spans: list[Span]
    critical: list[Span]
    resumed_s: list[float]
    length_s: float

    @property
    def shown_from_s(self) -> float:
        """Where to begin, a little before the first of them: what waits for workers to come may do so for hours."""
        first_s = min((span.started_s for span in self.spans), default=0.0)
        return max(0.0, first_s - 0.15 * (self.length_s - first_s))


def lanes(snapshot: Snapshot, rows: Rows, path: Path, most: int) -> Lanes:
    """The attempts by worker and time, one a span, or merged where there are more than `most`.

    Then what began in the same of some equal slices of time is one span, and so are attempts of one step with
    no longer a pause between them; at most some `most` are left. The time from a run's end to its resume is left out.
    """
    begun = np.isfinite(rows.started_at)
    ready_s, started_s, finished_s, starts = _times(snapshot, rows)
    length_s = float(np.max(finished_s[begun], initial=0.0))
    order = np.flatnonzero(begun)
    order = order[np.lexsort((started_s[order], rows.worker[order].astype(str)))]
    workers = len({*rows.worker[order].tolist()})

    def of(chosen: Ints) -> list[Span]:
        slice_s = length_s / max(1, most // max(1, workers)) if len(chosen) > most else 0.0
        found: list[Span] = []
        for at in chosen.tolist():
            span = _span(rows, at, float(ready_s[at]), float(started_s[at]), float(finished_s[at]))
            if found and found[-1].worker == span.worker and _are_one(found[-1], span, slice_s):
                found[-1].take(span)
            else:
                found.append(span)
        return found

    return Lanes(of(order), of(order[path.place[order] >= 0]), starts[1:], length_s)


def _are_one(span: Span, following: Span, slice_s: float) -> bool:
    if not slice_s:
        return False
    is_same_slice = int(span.started_s / slice_s) == int(following.started_s / slice_s)
    is_alike = (span.node, span.outcome) == (following.node, following.outcome)
    return is_same_slice or (is_alike and following.started_s - span.finished_s < slice_s)


def _span(rows: Rows, at: int, ready_s: float, started_s: float, finished_s: float) -> Span:
    code, item = int(rows.outcome[at]), int(rows.item[at])
    return Span(
        worker=str(rows.worker[at]),
        node=int(rows.node[at]),
        item=item,
        last_item=item,
        count=1,
        ready_s=ready_s,
        started_s=started_s,
        finished_s=finished_s,
        busy_s=finished_s - started_s,
        outcome=None if code == NO_OUTCOME else OUTCOMES[code],
        attempt=int(rows.attempt[at]),
    )


def _times(snapshot: Snapshot, rows: Rows) -> tuple[Floats, Floats, Floats, list[float]]:
    """When each attempt was ready, began and ended, and when each generation began: seconds, without the pauses."""
    ended_at = np.where(rows.outcome == NO_OUTCOME, snapshot.last_at or 0.0, rows.finished_at)
    ready = np.fmin(ready_at(snapshot, rows), rows.started_at)
    shift, starts, end_s = np.zeros(len(rows)), list[float](), 0.0
    for generation in range(1, snapshot.generation + 1):
        mine = rows.generation == generation
        if mine.any():
            first = float(np.nanmin(rows.started_at[mine], initial=np.inf))
            floor = min(snapshot.floors.get(generation, first), first)
            shift[mine] = end_s - floor
            starts.append(end_s)
            end_s += float(np.nanmax(ended_at[mine], initial=floor)) - floor
    return np.fmax(ready + shift, 0.0), rows.started_at + shift, np.fmax(ended_at, rows.started_at) + shift, starts
