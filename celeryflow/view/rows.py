"""The lines that text and page list: phases and steps, few enough to be read."""

from __future__ import annotations

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.summary import Summary, summarise
from celeryflow.view import words

MAX_ROWS = 30


def rows(snapshot: Snapshot, now: float | None = None) -> tuple[list[Summary], int]:
    """A summary a line, and how many more there would be.

    Phases first, then the steps that are in none; where these are many, uses of one step share a
    line. Above `MAX_ROWS` those that run or went wrong are kept before the others.
    """
    outside = sum(record.node.phase is None for record in snapshot.top)
    is_many = len(snapshot.graph.phases) + outside > MAX_ROWS
    found = snapshot.phases(now) + _by_use(snapshot, now) if is_many else snapshot.rows(now)
    if len(found) <= MAX_ROWS:
        return found, 0
    urgent = sorted(range(len(found)), key=lambda at: (_URGENCY.get(found[at].status, 3), at))[:MAX_ROWS]
    return [found[at] for at in sorted(urgent)], len(found) - MAX_ROWS


_URGENCY = {State.FAILURE: 0, State.RETRYING: 1, State.RUNNING: 2}


def _by_use(snapshot: Snapshot, now: float | None) -> list[Summary]:
    groups: dict[str, list[StepRecord]] = {}
    for record in snapshot.top:
        if record.node.phase is None:
            groups.setdefault(record.node.spec.name, []).append(record)
    at = now if now is not None else (snapshot.last_at or 0.0)
    return [summarise(_name(name, records), records, at) for name, records in groups.items()]


def _name(name: str, records: list[StepRecord]) -> str:
    return records[0].node.name if len(records) == 1 else f"{name} ({words.number(len(records))} steps)"
