"""What is known of one node of a run: its counts, times and open items, moved by its events."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from celeryflow.graph.model import Edge, Event, Node
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import NAN, AttemptLog, MarkLog, Outcome, outcome_of
from celeryflow.runtime.snapshot.open_items import LENGTH_ONLY, Claim, OpenItems

NO_ENTRY = -1


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """The failure that a view shows for a node: its first that was not absorbed, else its first."""

    seq: int
    index: int | None
    kind: str
    error: str
    attempt: int
    is_absorbed: bool


@dataclass(frozen=True, slots=True)
class Again:
    """An item that is tried again, from the end `at` of an attempt until the item has ended.

    After a lost worker or after a failure, for the time `tries` of `most` that the step allows; `tries` is 0 where
    nobody was charged.
    """

    at: float
    delay_s: float
    is_lost: bool
    tries: int
    most: int
    reason: str


class StepRecord:
    """One node of a run, so far.

    Attributes
    ----------
    node : Node
        What it is a record of.
    inputs : tuple of (StepRecord, Edge)
        The records of what it waits for, and how.
    length : int or None
        Its items: 1 for a plain step, for a map None until known.
    done, failed, skipped : int
        Items that ended that way. `failed` counts absorbed failures too.
    absorbed : int
        Failures that fail neither the map nor the run.
    reused : int
        Items of those done whose results are an earlier run's.
    origin : str
        The run that the latest of these are of.
    open : OpenItems
        Items that a worker holds, or that wait for another attempt.
    part : tuple of (int, int)
        Of a node that was added while the run went on: the item of its parent that added it, and the first of the nodes
        that came with it; else -1.
    inside : int
        How many steps it, and those that it added, have added.
    losses, retries : int
        Times that a worker died while it held items of this node, and that an item is tried again after it failed.
    again : dict of int to Again
        What is tried again, by item (by the first of those that were lost together), the latest last.
    latest : Again or None
        The latest of them, though it may have ended since.
    attempt : int
        Number of the latest attempt; 0 before the first.
    ended_as : State or None
        Its terminal state, once it has one.
    since, since_mark, since_generation : int
        Entries of the attempt log and of the marks from which on successes count, and generation from which on
        failures and skips do: a resume forgets the earlier ones.
    cause : int
        Of a skipped one: the input that failed or was skipped; else -1.
    is_unneeded : bool
        It was cancelled by itself, and not with its run: a gather went on without it, say.
    length_at, first_item_at, queued_from : float or None
        When its length was known, when its first item succeeded, and since when it could have
        been queued at the earliest: the run's submit or resume.
    work_s : float
        Sum of the running times of its attempts, in seconds.
    output_bytes : int
        Size of what its attempts stored.
    worker : str
        ``host:pid`` of the process that last claimed or ended something of it.
    failure : FirstFailure or None
        Why it, or its first item, failed.
    is_broken_inside : bool
        Whether a step that it added, or that those added, failed. Itself it is skipped then.
    """

    def __init__(self, node: Node, log: AttemptLog, marks: MarkLog) -> None:
        self.node, self._log, self._marks = node, log, marks
        self.inputs: tuple[tuple[StepRecord, Edge], ...] = ()
        self.part = (-1, -1)
        self.length: int | None = node.length if node.is_map else 1
        self.done = self.output_bytes = self.attempt = self.inside = self._closed = self.reused = 0
        self.losses = self.retries = 0
        self.since = self.since_mark = self.since_generation = self.ended_in = 0
        self.work_s, self.worker, self.origin = 0.0, "", ""
        self.queued_from: float | None = None
        self.length_at: float | None = None
        self.first_item_at: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Forget all but what succeeded and what was spent."""
        self.failed = self.absorbed = self.skipped = self._cancelled = 0
        self.open = OpenItems()
        self.again: dict[int, Again] = {}
        self.latest: Again | None = None
        self.ended_as: State | None = None
        self.failure: FirstFailure | None = None
        self.is_broken_inside = False
        self._trouble = ""
        self.cause, self.is_not_chosen, self.is_unneeded = -1, False, False
        self._ended_at: float | None = None
        self._claimed_at: float | None = None
        self._first_entry = self._last_entry = NO_ENTRY

    # --- what it says ------------------------------------------------------------------------

    @property
    def status(self) -> State:
        """State of the node, as everything that shows it says it."""
        if self.ended_as is not None:
            return self.ended_as
        if self.open.claims:
            return State.RUNNING
        if State.RETRYING in self.open.waiting.values():
            return State.RETRYING
        if State.RUNNING in self.open.waiting.values():
            return State.RUNNING
        if self.node.is_map and self.ended:
            return State.RUNNING
        return State.READY if self._is_ready() else State.PENDING

    def _is_ready(self) -> bool:
        return self.queued_from is not None and all(record._has_given(edge) for record, edge in self.inputs)

    def _has_given(self, edge: Edge) -> bool:
        if edge is Edge.LENGTH:
            return self.length is not None
        return self.ended_as is not None or (edge is Edge.ITEMS and self.done > 0)

    @property
    def is_lost(self) -> bool:
        """Whether items wait for another worker after theirs died."""
        return self.ended_as is None and State.READY in self.open.waiting.values()

    @property
    def is_reused(self) -> bool:
        """Whether it succeeded and nothing of it ran."""
        return self.ended_as is State.SUCCESS and self.reused > 0 and not self.attempts

    @property
    def running(self) -> int:
        """Items that a worker holds."""
        return self.open.running

    @property
    def retrying(self) -> int:
        """Items that wait for another attempt after theirs failed."""
        return self.open.retrying

    @property
    def cancelled(self) -> int:
        """Items that were cancelled: once the node has ended, all that did not end otherwise."""
        if self.ended_as is None or self.length is None:
            return self._cancelled
        return max(0, self.length - self.done - self.failed - self.skipped)

    @property
    def ended(self) -> int:
        """Items that ended, however."""
        return self.done + self.failed + self.skipped + self.cancelled

    @property
    def pending(self) -> int:
        """Items that wait for their inputs or for a worker."""
        return max(0, (self.length or 0) - self.ended - self.running - self.retrying)

    @property
    def progress(self) -> float:
        """Share that ended, 0 to 1; an empty map is complete when it ended."""
        if self.ended_as is not None:
            return 1.0
        return min(1.0, self.ended / self.length) if self.length else 0.0

    @property
    def done_share(self) -> float:
        """Share that succeeded, 0 to 1."""
        return min(1.0, self.done / self.length) if self.length else float(self.ended_as is State.SUCCESS)

    @property
    def failed_share(self) -> float:
        """Share that failed, 0 to 1."""
        return min(1.0, self.failed / self.length) if self.length else float(self.ended_as is State.FAILURE)

    @property
    def attempts(self) -> int:
        """Executions of it or its items, running ones included: its rows in the timeline."""
        return self._closed + self.running + (LENGTH_ONLY in self.open.claims)

    @property
    def error(self) -> str:
        """Its first error in one line, or why it was skipped; while it waits, the latest; else empty."""
        if self.failure is not None:
            return self.failure.error
        if self.cause >= 0:
            return self._why_skipped()
        return self._trouble if self.open.waiting or self.ended_as is State.CANCELLED else ""

    def _why_skipped(self) -> str:
        """The failed step that this one needed, by way of others that were skipped for it; or the branch."""
        if self.is_left_out:
            return "the branch took another arm"
        cause = self._first_cause()
        return f"needs step {cause.node.name!r}, which ended as {cause.status}" if cause else "upstream"

    def _first_cause(self) -> StepRecord | None:
        """The step for which this one was skipped, by way of others; the first of them that a branch left out."""
        cause: StepRecord | None = self
        while cause is not None and cause.cause >= 0 and not cause.is_not_chosen:
            cause = next((r for r, _ in cause.inputs if r.node.index == cause.cause), None)
        return cause

    @property
    def is_left_out(self) -> bool:
        """Whether a branch did not choose it, or what it needs."""
        cause = self._first_cause()
        return cause is not None and cause.is_not_chosen

    @property
    def started_at(self) -> float | None:
        """Start of its first attempt; its claim, until that attempt's end tells the start, and where it added steps."""
        is_claim = self._first_entry == NO_ENTRY or self.inside
        return self._claimed_at if is_claim else self._log.started_at[self._first_entry]

    @property
    def finished_at(self) -> float | None:
        """End of a plain step's last attempt; else when it ended."""
        if self._ended_at is None or self._last_entry == NO_ENTRY or self.node.is_map:
            return self._ended_at
        return self._log.finished_at[self._last_entry]

    @property
    def ready_at(self) -> float | None:
        """When it could have begun: its inputs' end, or the run's submit."""
        times = [self.queued_from, *(record.given_at(edge) for record, edge in self.inputs)]
        known = [at for at in times if at is not None]
        return max(known) if len(known) == len(times) else None

    def given_at(self, edge: Edge) -> float | None:
        """When it gave a node what this kind of edge waits for (of ``ITEMS``: the first one)."""
        if edge is Edge.LENGTH:
            return self.queued_from if self.length_at is None else self.length_at
        if edge is Edge.ITEMS and self.first_item_at is not None:
            return self.first_item_at
        return self.finished_at

    @property
    def queue_wait_s(self) -> float | None:
        """From the moment it could begin to its first start, in seconds."""
        started_at, ready_at = self.started_at, self.ready_at
        if started_at is None:
            return None
        return 0.0 if ready_at is None else max(0.0, started_at - ready_at)

    def duration_s(self, now: float) -> float | None:
        """From its start to its end, or to `now` while it has none; None before it started."""
        if self.started_at is None:
            return None
        return max(0.0, (now if self.finished_at is None else self.finished_at) - self.started_at)

    # --- what moves it -----------------------------------------------------------------------

    def claim(self, event: Event) -> None:
        """A worker took items."""
        start, count = self._clip(event)
        if self.ended_as is not None or not count:
            return
        self.open.hold(start, Claim(count, event.attempt, event.generation, event.worker, event.at))
        self.attempt, self.worker = max(self.attempt, event.attempt), event.worker or self.worker
        if self._claimed_at is None:
            self._claimed_at = event.at

    def succeed(self, event: Event) -> None:
        """Items succeeded, or the reading of the length did."""
        start, count = self._clip(event)
        if start == LENGTH_ONLY:
            self._end_reading(event)
        elif count:
            self._log_end(event, start, count, Outcome.SUCCESS, State.SUCCESS)
            self.done += count
            self.first_item_at = event.at if self.first_item_at is None else self.first_item_at
            self._end_step(event, State.SUCCESS)
        self.output_bytes += event.output_bytes

    def reuse(self, event: Event) -> None:
        """Results of an earlier run stand for these items."""
        start, count = self._clip(event)
        self._marks.add(self.node.index, start, count, event.generation, State.SUCCESS, "")
        self.done, self.reused = self.done + count, self.reused + count
        self.output_bytes += event.output_bytes
        self.first_item_at, self.origin = event.at, event.origin
        self._end_step(event, State.SUCCESS)

    def know_length(self, event: Event) -> None:
        """The number of items is known."""
        self._end_reading(event)
        self.length, self.length_at = max(0, event.count), event.at

    def fail(self, event: Event) -> None:
        """Items failed for good, or were cancelled."""
        start, count = self._clip(event)
        is_cancelled = event.kind == "cancelled"
        state = State.CANCELLED if is_cancelled else State.FAILURE
        self._log_end(event, start, count, outcome_of(event.kind), state)
        self._note_failure(event, start)
        if start == LENGTH_ONLY:
            self._end(event.at, event.generation, state)
            return
        if is_cancelled:
            self._cancelled += count
        else:
            self.failed += count
            self.absorbed += count if self._is_absorbed(event) else 0
        self._end_step(event, state)

    def skip(self, event: Event) -> None:
        """Items were skipped by a worker, or the whole node by the store: then it has ended."""
        start, count = self._clip(event)
        self.open.take(start, count)
        self._marks.add(self.node.index, start, count, event.generation, State.SKIPPED, event.error)
        is_item = self.node.is_map and event.cause < 0 and bool(event.worker)
        if self.length is None or (start == 0 and count == self.length and not is_item):
            self.skipped = max(0, (self.length or 0) - self.done - self.failed - self._cancelled)
            self.cause, self.is_not_chosen = event.cause, event.kind == "branch"
            self._end(event.at, event.generation, State.SKIPPED)
        else:
            self.skipped += count

    def retry(self, event: Event) -> None:
        """An attempt failed and will come back after a delay."""
        self._wait_again(event, outcome_of(event.kind), State.RETRYING, event.at + event.delay_s)
        self._trouble = event.error
        self.retries += 1
        self._note_again(event, is_lost=False, most=self.node.spec.retries)

    def lose(self, event: Event) -> None:
        """A worker died under its items, which wait for another."""
        self._wait_again(event, Outcome.WORKER_LOST, State.READY, event.at)
        self._trouble = event.error or "worker lost"
        self.losses += 1
        self._note_again(event, is_lost=True, most=self.node.spec.max_worker_losses)

    def refuse(self, event: Event) -> None:
        """A result came that nobody waits for any more."""
        self._log.refuse(self.node.index, event.start, event.worker)

    def release(self, event: Event) -> None:
        """A worker handed items back: no attempt, nothing charged."""
        self.open.take(*self._clip(event))

    def expand(self, event: Event) -> None:
        """Items go on as steps of their own, whose end they wait for."""
        start, count = self._clip(event)
        if self.ended_as is None:
            self.open.take(start, count)
            self.open.wait(start, count, State.RUNNING)

    def cancel(self, event: Event) -> None:
        """Nothing needs it any more."""
        self._trouble, self.is_unneeded = event.error, True
        self._end(event.at, event.generation, State.CANCELLED, event.error)

    def settle(self, event: Event) -> None:
        """All items of the map have ended, and the status is the map's own."""
        self._end(event.at, event.generation, end_state(event.status))

    def stop(self, at: float, generation: int, reason: str = "", outcome: Outcome = Outcome.CANCELLED) -> None:
        """The run has ended, for this reason: what is still open is cancelled."""
        if self.ended_as is None:
            self._end(at, generation, State.CANCELLED, reason, outcome)

    def reopen(self, at: float, generation: int) -> None:
        """A resume: pending again, but for what succeeded."""
        if self.ended_as is not State.SUCCESS:
            self.stop(at, generation, "what ran it has gone", Outcome.WORKER_LOST)
            self._forget()
            self.since_generation, self.queued_from = generation, at

    def rerun(self, event: Event) -> None:
        """A resume runs it again although it had ended: its earlier results no longer count."""
        self._forget()
        self.done, self.reused, self.first_item_at, self.queued_from = 0, 0, None, event.at
        self.since, self.since_mark, self.since_generation = len(self._log), len(self._marks), event.generation

    # --- small parts -------------------------------------------------------------------------

    def _clip(self, event: Event) -> tuple[int, int]:
        """The items that an event speaks of, of those there are."""
        if event.start == LENGTH_ONLY:
            return LENGTH_ONLY, 1
        length = self.length or 0
        start = min(max(0, event.start), length)
        return start, min(max(0, event.count), length - start)

    def _log_end(self, e: Event, start: int, count: int, outcome: Outcome, state: State, again: float = NAN) -> None:
        """Free items of their claim and write the attempt down, or just the end where there was none."""
        claim = self.open.take(start, count)
        self._forget_again(start, count)
        if not count:
            return
        if claim is None and outcome is not Outcome.SUCCESS and not (e.worker or e.durations_s):
            self._marks.add(self.node.index, start, count, e.generation, state, e.error)
            return
        worker = (claim.worker if claim else "") or e.worker
        durations = _durations(e, count, claim)
        entry = self._log.add(
            self.node.index, start, count, e.attempt, e.generation, worker, e.error,
            claim.at if claim else NAN, claim.at + e.waited_s if claim else 0.0 if durations else e.at,
            e.at, again, outcome, state, durations,
        )  # fmt: skip
        self._closed += count
        self.work_s += sum(durations)
        self.attempt, self.worker, self._last_entry = e.attempt, worker or self.worker, entry
        if self._first_entry == NO_ENTRY or self._log.started_at[entry] < self._log.started_at[self._first_entry]:
            self._first_entry = entry

    def _wait_again(self, event: Event, outcome: Outcome, state: State, again_at: float) -> None:
        start, count = self._clip(event)
        if self.ended_as is None:
            self._log_end(event, start, count, outcome, state, again_at)
            self.open.wait(start, count, state)

    def _note_again(self, event: Event, is_lost: bool, most: int) -> None:
        if self.ended_as is None:
            self.again.pop(event.start, None)
            self.latest = Again(event.at, event.delay_s, is_lost, event.tries, most, event.error)
            self.again[event.start] = self.latest

    def _forget_again(self, start: int, count: int) -> None:
        for item in [item for item in self.again if start <= item < start + count]:
            del self.again[item]

    def _end_reading(self, event: Event) -> None:
        """The attempt that reads the length has ended, as ``length`` says, and perhaps ``success`` again."""
        if LENGTH_ONLY in self.open.claims:
            self._log_end(event, LENGTH_ONLY, 1, Outcome.SUCCESS, State.SUCCESS)

    def _note_failure(self, event: Event, start: int) -> None:
        is_absorbed = self._is_absorbed(event)
        if self.failure is None or (self.failure.is_absorbed and not is_absorbed):
            index = start if self.node.is_map and start != LENGTH_ONLY else None
            self.failure = FirstFailure(event.seq, index, event.kind, event.error, event.attempt, is_absorbed)

    def _is_absorbed(self, event: Event) -> bool:
        return event.is_absorbed or not self.node.is_fatal

    def _end_step(self, event: Event, state: State) -> None:
        if not self.node.is_map:
            self._end(event.at, event.generation, state)

    def _end(
        self, at: float, generation: int, state: State, reason: str = "", outcome: Outcome = Outcome.CANCELLED
    ) -> None:
        """It has ended; what workers still hold of it is cancelled."""
        for start, claim in sorted(self.open.claims.items()):
            end = Event(seq=0, at=at, event="ended", attempt=claim.attempt, generation=claim.generation, error=reason)
            self._log_end(end, start, claim.size, outcome, State.CANCELLED)
        self.open, self.again = OpenItems(), {}
        self.ended_as, self._ended_at, self.ended_in = state, at, generation


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
