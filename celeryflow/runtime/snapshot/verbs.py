"""What each event does to the record of its node."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

from celeryflow.graph.model import Event
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import NAN, Outcome, outcome_of
from celeryflow.runtime.snapshot.open_items import LENGTH_ONLY, Claim, OpenItems
from celeryflow.runtime.snapshot.record import NO_ENTRY, Again, FirstFailure, StepRecord


def claim(record: StepRecord, event: Event) -> None:
    """A worker took items."""
    start, count = _clip(record, event)
    if record.ended_as is not None or not count:
        return
    record.open.hold(start, Claim(count, event.attempt, event.generation, event.worker, event.at))
    record.attempt, record.worker = max(record.attempt, event.attempt), event.worker or record.worker
    if record.claimed_at is None:
        record.claimed_at = event.at


def succeed(record: StepRecord, event: Event) -> None:
    """Items succeeded, or the reading of the length did."""
    start, count = _clip(record, event)
    if start == LENGTH_ONLY:
        _end_reading(record, event)
    elif count:
        _log_end(record, event, start, count, Outcome.SUCCESS, State.SUCCESS)
        record.done += count
        record.first_item_at = event.at if record.first_item_at is None else record.first_item_at
        _end_step(record, event, State.SUCCESS)
    record.output_bytes += event.output_bytes


def reuse(record: StepRecord, event: Event) -> None:
    """Results of an earlier run stand for these items."""
    start, count = _clip(record, event)
    record.marks.add(record.node.index, start, count, event.generation, State.SUCCESS, "")
    record.done, record.reused = record.done + count, record.reused + count
    record.output_bytes += event.output_bytes
    record.first_item_at, record.origin = event.at, event.origin
    _end_step(record, event, State.SUCCESS)


def know_length(record: StepRecord, event: Event) -> None:
    """The number of items is known."""
    _end_reading(record, event)
    record.length, record.length_at = max(0, event.count), event.at


def fail(record: StepRecord, event: Event) -> None:
    """Items failed for good, or were cancelled."""
    start, count = _clip(record, event)
    is_cancelled = event.kind == "cancelled"
    state = State.CANCELLED if is_cancelled else State.FAILURE
    _log_end(record, event, start, count, outcome_of(event.kind), state)
    _note_failure(record, event, start)
    if start == LENGTH_ONLY:
        _end(record, event.at, event.generation, state)
        return
    if is_cancelled:
        record.cancelled_items += count
    else:
        record.failed += count
        record.absorbed += count if _is_absorbed(record, event) else 0
    _end_step(record, event, state)


def skip(record: StepRecord, event: Event) -> None:
    """Items were skipped by a worker, or the whole node by the store: then it has ended."""
    start, count = _clip(record, event)
    record.open.take(start, count)
    record.marks.add(record.node.index, start, count, event.generation, State.SKIPPED, event.error)
    is_item = record.node.is_map and event.cause < 0 and bool(event.worker)
    if record.length is None or (start == 0 and count == record.length and not is_item):
        record.skipped = max(0, (record.length or 0) - record.done - record.failed - record.cancelled_items)
        record.cause, record.is_not_chosen = event.cause, event.kind == "branch"
        _end(record, event.at, event.generation, State.SKIPPED)
    else:
        record.skipped += count


def retry(record: StepRecord, event: Event) -> None:
    """An attempt failed and will come back after a delay."""
    _wait_again(record, event, outcome_of(event.kind), State.RETRYING, event.at + event.delay_s)
    record.trouble = event.error
    record.retries += 1
    _note_again(record, event, is_lost=False, most=record.node.spec.retries)


def lose(record: StepRecord, event: Event) -> None:
    """A worker died under its items, which wait for another."""
    _wait_again(record, event, Outcome.WORKER_LOST, State.READY, event.at)
    record.trouble = event.error or "worker lost"
    record.losses += 1
    _note_again(record, event, is_lost=True, most=record.node.spec.max_worker_losses)


def refuse(record: StepRecord, event: Event) -> None:
    """A result came that nobody waits for any more."""
    record.log.refuse(record.node.index, event.start, event.worker)


def release(record: StepRecord, event: Event) -> None:
    """A worker handed items back: no attempt, nothing charged."""
    record.open.take(*_clip(record, event))


def expand(record: StepRecord, event: Event) -> None:
    """Items go on as steps of their own, whose end they wait for."""
    start, count = _clip(record, event)
    if record.ended_as is None:
        record.open.take(start, count)
        record.open.wait(start, count, State.RUNNING)


def cancel(record: StepRecord, event: Event) -> None:
    """Nothing needs it any more."""
    record.trouble, record.is_unneeded = event.error, True
    _end(record, event.at, event.generation, State.CANCELLED, event.error)


def settle(record: StepRecord, event: Event) -> None:
    """All items of the map have ended, and the status is the map's own."""
    _end(record, event.at, event.generation, end_state(event.status))


def stop(
    record: StepRecord, at: float, generation: int, reason: str = "", outcome: Outcome = Outcome.CANCELLED
) -> None:
    """The run has ended, for this reason: what is still open is cancelled."""
    if record.ended_as is None:
        _end(record, at, generation, State.CANCELLED, reason, outcome)


def reopen(record: StepRecord, at: float, generation: int) -> None:
    """A resume: pending again, but for what succeeded."""
    if record.ended_as is not State.SUCCESS:
        stop(record, at, generation, "what ran it has gone", Outcome.WORKER_LOST)
        record.forget()
        record.since_generation, record.queued_from = generation, at


def rerun(record: StepRecord, event: Event) -> None:
    """A resume runs it again although it had ended: its earlier results no longer count."""
    record.forget()
    record.done, record.reused, record.first_item_at, record.queued_from = 0, 0, None, event.at
    record.since, record.since_mark, record.since_generation = len(record.log), len(record.marks), event.generation


def _clip(record: StepRecord, event: Event) -> tuple[int, int]:
    """The items that an event speaks of, of those there are."""
    if event.start == LENGTH_ONLY:
        return LENGTH_ONLY, 1
    length = record.length or 0
    start = min(max(0, event.start), length)
    return start, min(max(0, event.count), length - start)


def _log_end(
    record: StepRecord, e: Event, start: int, count: int, outcome: Outcome, state: State, again: float = NAN
) -> None:
    """Free items of their claim and write the attempt down, or just the end where there was none."""
    claim = record.open.take(start, count)
    _forget_again(record, start, count)
    if not count:
        return
    if claim is None and outcome is not Outcome.SUCCESS and not (e.worker or e.durations_s):
        record.marks.add(record.node.index, start, count, e.generation, state, e.error)
        return
    worker = (claim.worker if claim else "") or e.worker
    durations = _durations(e, count, claim)
    entry = record.log.add(
        record.node.index, start, count, e.attempt, e.generation, worker, e.error,
        claim.at if claim else NAN, claim.at + e.waited_s if claim else 0.0 if durations else e.at,
        e.at, again, outcome, state, durations,
    )  # fmt: skip
    record.closed += count
    record.work_s += sum(durations)
    record.attempt, record.worker, record.last_entry = e.attempt, worker or record.worker, entry
    if record.first_entry == NO_ENTRY or record.log.started_at[entry] < record.log.started_at[record.first_entry]:
        record.first_entry = entry


def _wait_again(record: StepRecord, event: Event, outcome: Outcome, state: State, again_at: float) -> None:
    start, count = _clip(record, event)
    if record.ended_as is None:
        _log_end(record, event, start, count, outcome, state, again_at)
        record.open.wait(start, count, state)


def _note_again(record: StepRecord, event: Event, is_lost: bool, most: int) -> None:
    if record.ended_as is None:
        record.again.pop(event.start, None)
        record.latest = Again(event.at, event.delay_s, is_lost, event.tries, most, event.error)
        record.again[event.start] = record.latest


def _forget_again(record: StepRecord, start: int, count: int) -> None:
    for item in [item for item in record.again if start <= item < start + count]:
        del record.again[item]


def _end_reading(record: StepRecord, event: Event) -> None:
    """The attempt that reads the length has ended, as ``length`` says, and perhaps ``success`` again."""
    if LENGTH_ONLY in record.open.claims:
        _log_end(record, event, LENGTH_ONLY, 1, Outcome.SUCCESS, State.SUCCESS)


def _note_failure(record: StepRecord, event: Event, start: int) -> None:
    is_absorbed = _is_absorbed(record, event)
    if record.failure is None or (record.failure.is_absorbed and not is_absorbed):
        index = start if record.node.is_map and start != LENGTH_ONLY else None
        record.failure = FirstFailure(event.seq, index, event.kind, event.error, event.attempt, is_absorbed)


def _is_absorbed(record: StepRecord, event: Event) -> bool:
    return event.is_absorbed or not record.node.is_fatal


def _end_step(record: StepRecord, event: Event, state: State) -> None:
    if not record.node.is_map:
        _end(record, event.at, event.generation, state)


def _end(
    record: StepRecord, at: float, generation: int, state: State, reason: str = "", outcome: Outcome = Outcome.CANCELLED
) -> None:
    """It has ended; what workers still hold of it is cancelled."""
    for start, claim in sorted(record.open.claims.items()):
        end = Event(seq=0, at=at, event="ended", attempt=claim.attempt, generation=claim.generation, error=reason)
        _log_end(record, end, start, claim.size, outcome, State.CANCELLED)
    record.open, record.again = OpenItems(), {}
    record.ended_as, record.ended_at, record.ended_in = state, at, generation


_TERMINAL = {state.value: state for state in State if state.is_terminal}


def end_state(status: str) -> State:
    """The terminal state that an event names; `failure` for a word that is none, never an error."""
    return _TERMINAL.get(status, State.FAILURE)


def _durations(event: Event, count: int, claim: Claim | None) -> tuple[float, ...]:
    """Running time of each item; of a single one that does not say, all the time since its claim."""
    durations = event.durations_s
    if len(durations) == count and isfinite(sum(durations)) and min(durations) >= 0:
        return durations
    return (max(0.0, event.at - claim.at - event.waited_s),) if claim and count == 1 else ()


VERBS: dict[str, Callable[[StepRecord, Event], None]] = {
    "claimed": claim,
    "success": succeed,
    "reused": reuse,
    "failure": fail,
    "skipped": skip,
    "retrying": retry,
    "lost": lose,
    "stale": refuse,
    "released": release,
    "expanded": expand,
    "cancelled": cancel,
    "length": know_length,
    "settled": settle,
}
"""By the names of the events."""
