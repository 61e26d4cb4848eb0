"""Attempts of a run, expanded from chunks to one row an item: columns of numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeryflow.graph.model import Edge
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import NAN, OUTCOME_CODE, STATE_CODE, Outcome
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_OUTCOME = -1
"""Code of an attempt that still runs."""

_SUCCESS = STATE_CODE[State.SUCCESS]
_UNNUMBERED = [NO_OUTCOME, OUTCOME_CODE[Outcome.WORKER_LOST], OUTCOME_CODE[Outcome.STALE]]
_TERMINAL = np.array([state.is_terminal for state in State])


@dataclass(frozen=True)
class Rows:
    """One row an attempt of an item: ended ones in the order of their events, then those under way.

    `item` is -1 for an attempt that only reads a map's length. Times are seconds since 1970
    UTC, NaN where unknown; `worker` and `reason` are texts; `outcome` and `state` are codes, and
    `entry` is the place in the attempt log, past its end for what is under way.
    """

    entry: Ints
    node: Ints
    item: Ints
    attempt: Ints
    generation: Ints
    worker: NDArray[np.object_]
    reason: NDArray[np.object_]
    claimed_at: Floats
    started_at: Floats
    finished_at: Floats
    again_at: Floats
    duration_s: Floats
    outcome: Ints
    state: Ints

    def __len__(self) -> int:
        return len(self.node)

    def where(self, mask: NDArray[Any]) -> Rows:
        """The rows that `mask` holds for, in the same order."""
        return Rows(**{name: column[mask] for name, column in vars(self).items()})


def expand(snapshot: Snapshot, node: int | None = None) -> Rows:
    """Every attempt of the run, or of one node, as rows."""
    ended, running = _ended(snapshot, node), _under_way(snapshot, node)
    both = {name: np.concatenate([column, getattr(running, name)]) for name, column in vars(ended).items()}
    return _numbered(Rows(**both))


def _numbered(rows: Rows) -> Rows:
    """Attempts whose end did not say their number are one more than the one before them."""
    is_said = ~np.isin(rows.outcome, _UNNUMBERED)
    previous = _previous(rows.node, rows.item)
    attempt = rows.attempt.copy()
    # In order, as each takes its number from the one before; there are few of them.
    for at in np.flatnonzero(~is_said & (previous >= 0)).tolist():
        attempt[at] = max(attempt[at], attempt[previous[at]] + 1)
    return replace(rows, attempt=attempt)


def _ended(snapshot: Snapshot, node: int | None) -> Rows:
    """The attempt log, item by item."""
    log = snapshot.attempts
    nodes, count = _ints(log.node), _ints(log.count)
    entry = np.repeat(np.arange(len(log)), count)
    durations = np.array(log.durations, dtype=np.float64)
    first = np.cumsum(count) - count
    if node is not None:
        keep = nodes[entry] == node
        position = np.flatnonzero(keep)
        entry, durations = entry[keep], durations[keep]
    else:
        position = np.arange(len(entry))
    item = _ints(log.start)[entry] + position - first[entry]
    is_first = position == first[entry]
    ended_at = _floats(log.finished_at)[entry]
    # The worker's clock may have run faster than the server's: nothing starts after the commit.
    started_at = np.fmin(_floats(log.started_at)[entry] + _before(durations, is_first), ended_at)
    # Of a chunk whose times are unknown, only the first item is known to have begun.
    started_at = np.where(np.isnan(durations) & ~is_first, NAN, started_at)
    texts = np.array(log.words.texts, dtype=object)
    return Rows(
        entry=entry,
        node=nodes[entry],
        item=item,
        attempt=_ints(log.attempt)[entry],
        generation=_ints(log.generation)[entry],
        worker=texts[_ints(log.worker)[entry]],
        reason=texts[_ints(log.reason)[entry]],
        claimed_at=_floats(log.claimed_at)[entry],
        started_at=started_at,
        finished_at=np.where(np.isnan(durations), ended_at, np.minimum(started_at + durations, ended_at)),
        again_at=_floats(log.again_at)[entry],
        duration_s=durations,
        outcome=np.array(log.outcome, dtype=np.int64)[entry],
        state=np.array(log.state, dtype=np.int64)[entry],
    )


def _before(durations: Floats, is_first: NDArray[np.bool_]) -> Floats:
    """Sum of the running times of the items before each one in its chunk."""
    if not len(durations):
        return durations
    known = np.nan_to_num(durations)
    before = np.cumsum(known) - known
    return np.asarray(before - before[is_first][np.cumsum(is_first) - 1])


def _under_way(snapshot: Snapshot, node: int | None) -> Rows:
    """What workers hold now. Of a chunk, the first item is taken to run since the claim."""
    records = snapshot.steps if node is None else [snapshot.record_of(node)]
    held = [(r.node.index, start, claim) for r in records for start, claim in sorted(r.open.claims.items())]
    count = np.array([claim.size for _, _, claim in held], dtype=np.int64)
    entry = np.repeat(np.arange(len(held)), count)
    position = np.arange(len(entry)) - (np.cumsum(count) - count)[entry]
    claimed_at = np.array([claim.at for _, _, claim in held], dtype=np.float64)[entry]
    unknown = np.full(len(entry), NAN)
    return Rows(
        entry=entry + len(snapshot.attempts),
        node=np.array([index for index, _, _ in held], dtype=np.int64)[entry],
        item=np.array([start for _, start, _ in held], dtype=np.int64)[entry] + position,
        attempt=np.array([claim.attempt for _, _, claim in held], dtype=np.int64)[entry],
        generation=np.array([claim.generation for _, _, claim in held], dtype=np.int64)[entry],
        worker=np.array([claim.worker for _, _, claim in held], dtype=object)[entry],
        reason=np.full(len(entry), "", dtype=object),
        claimed_at=claimed_at,
        started_at=np.where(position == 0, claimed_at, NAN),
        finished_at=unknown,
        again_at=unknown,
        duration_s=unknown,
        outcome=np.full(len(entry), NO_OUTCOME),
        state=np.full(len(entry), STATE_CODE[State.RUNNING]),
    )


def ready_at(snapshot: Snapshot, rows: Rows) -> Floats:
    """When each attempt could have begun.

    The first of an item: when the last of its inputs was there (of a map over a map, the same
    item's end there), not before the run's submit or resume. A later one: when the one before it
    was over and its delay had passed. Never after the claim.
    """
    ready = np.full(len(rows), NAN)
    order = np.argsort(rows.node, kind="stable")
    nodes, starts = np.unique(rows.node[order], return_index=True)
    for node, at in zip(nodes.tolist(), np.split(order, starts)[1:], strict=True):
        ready[at] = _inputs_at(snapshot, snapshot.record_of(node), rows, rows.item[at])
    floors = [snapshot.floors.get(generation, NAN) for generation in range(snapshot.generation + 1)]
    ready = np.fmax(ready, np.array(floors)[np.clip(rows.generation, 0, snapshot.generation)])
    again = np.append(rows.again_at, NAN)[_previous(rows.node, rows.item)]
    ready = np.where(np.isnan(again), ready, again)
    return np.asarray(np.fmin(ready, np.where(np.isnan(rows.claimed_at), rows.started_at, rows.claimed_at)))


def _inputs_at(snapshot: Snapshot, record: StepRecord, rows: Rows, items: Ints) -> Floats:
    ready = np.full(len(items), NAN)
    for source, edge in record.inputs:
        if edge is Edge.ITEMS:
            ready = np.fmax(ready, _finish_of(rows, source)[np.where(_are_items(items, source), items, -1)])
        else:
            given = source.given_at(edge)
            ready = np.fmax(ready, NAN if given is None else given)
    return ready


def _finish_of(rows: Rows, record: StepRecord) -> Floats:
    """End of each item of a map, NaN for what has none; one more NaN at the end, for what is no item."""
    finish = np.full((record.length or 0) + 1, NAN)
    mine = (rows.node == record.node.index) & _TERMINAL[rows.state] & _are_items(rows.item, record)
    finish[rows.item[mine]] = rows.finished_at[mine]
    return finish


def _are_items(items: Ints, record: StepRecord) -> NDArray[np.bool_]:
    """Which are numbers of items that the map has: a resume may have found fewer."""
    return (items >= 0) & (items < (record.length or 0))


def _previous(node: Ints, item: Ints) -> Ints:
    """Of each row, the one before it of the same item; -1 for a first one."""
    previous = np.full(len(node), -1)
    order = np.lexsort((np.arange(len(node)), item, node))
    same = (np.diff(node[order]) == 0) & (np.diff(item[order]) == 0)
    previous[order[1:][same]] = order[:-1][same]
    return previous


@dataclass(frozen=True)
class Items:
    """Where each item of a map stands. `last` is the row of its latest attempt, -1 without one."""

    state: Ints
    attempts: Ints
    last: Ints
    reason: NDArray[np.object_]


def items(snapshot: Snapshot, record: StepRecord, rows: Rows) -> Items:
    """State, number of attempts and latest attempt of each item, from the rows of its node."""
    length = record.length or 0
    real = _are_items(rows.item, record)
    last = np.full(length, -1)
    last[rows.item[real]] = np.flatnonzero(real)
    state = np.full(length, STATE_CODE[State.PENDING])
    reason = np.full(length, "", dtype=object)
    counts = real & _counts(record, rows)
    reason[rows.item[counts]] = rows.reason[counts]
    # Which items wait for another attempt is not told by the last one: it may have been handed back.
    counts &= _TERMINAL[rows.state] | (rows.outcome == NO_OUTCOME)
    state[rows.item[counts]] = rows.state[counts]
    _apply_marks(snapshot, record, state, reason)
    for item, waits_as in record.open.waiting.items():
        if item >= 0:
            state[item] = STATE_CODE[waits_as]
    if record.ended_as is not None:
        rest = State.SKIPPED if record.ended_as is State.SKIPPED else State.CANCELLED
        state[~_TERMINAL[state]] = STATE_CODE[rest]
    return Items(state, np.bincount(rows.item[real], minlength=length), last, reason)


def _counts(record: StepRecord, rows: Rows) -> NDArray[np.bool_]:
    """Which attempts still tell an item's state: a resume forgets all but what succeeded."""
    is_kept = (rows.state == _SUCCESS) & (rows.entry >= record.since)
    return np.asarray(is_kept | ((rows.generation >= record.since_generation) & (rows.entry >= record.since)))


def _apply_marks(snapshot: Snapshot, record: StepRecord, state: Ints, reason: NDArray[np.object_]) -> None:
    marks = snapshot.marks
    counts = (_ints(marks.generation) >= record.since_generation) | (_ints(marks.state) == _SUCCESS)
    mine = (_ints(marks.node) == record.node.index) & counts & (np.arange(len(marks)) >= record.since_mark)
    for at in np.flatnonzero(mine).tolist():
        span = slice(marks.start[at], marks.start[at] + marks.count[at])
        is_open = ~_TERMINAL[state[span]]
        state[span][is_open] = marks.state[at]
        reason[span][is_open] = marks.words.texts[marks.reason[at]]


def _ints(column: Any) -> Ints:
    return np.array(column, dtype=np.int64)


def _floats(column: Any) -> Floats:
    return np.array(column, dtype=np.float64)
