"""What is known of one node of a run: its counts, times and open items."""

from __future__ import annotations

from dataclasses import dataclass

from celeryflow.graph.model import Edge, Node
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import AttemptLog, MarkLog
from celeryflow.runtime.snapshot.open_items import LENGTH_ONLY, OpenItems

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
    """One node of a run, so far; `verbs` moves it.

    Attributes
    ----------
    node : Node
        What it is a record of.
    log, marks : AttemptLog, MarkLog
        The run's, in which its attempts, and what ended without one, stand.
    inputs : tuple of (StepRecord, Edge)
        The records of what it waits for, and how.
    length : int or None
        Its items: 1 for a plain step, for a map None until known.
    done, failed, skipped : int
        Items that ended that way. `failed` counts absorbed failures too.
    absorbed : int
        Failures that fail neither the map nor the run.
    cancelled_items : int
        Items that were cancelled one by one; `cancelled` has all.
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
    attempt, closed : int
        Number of the latest attempt, 0 before the first; and how many have ended.
    first_entry, last_entry : int
        Entries of the attempt log: of the first to start, and of the last to end.
    claimed_at, ended_at : float or None
        When something of it was first claimed, and when it ended.
    ended_as : State or None
        Its terminal state, once it has one.
    ended_in : int
        The generation in which it ended.
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
    trouble : str
        Why its latest attempt that did not succeed ended, or why it was cancelled.
    """

    def __init__(self, node: Node, log: AttemptLog, marks: MarkLog) -> None:
        self.node, self.log, self.marks = node, log, marks
        self.inputs: tuple[tuple[StepRecord, Edge], ...] = ()
        self.part = (-1, -1)
        self.length: int | None = node.length if node.is_map else 1
        self.done = self.output_bytes = self.attempt = self.inside = self.closed = self.reused = 0
        self.losses = self.retries = 0
        self.since = self.since_mark = self.since_generation = self.ended_in = 0
        self.work_s, self.worker, self.origin = 0.0, "", ""
        self.queued_from: float | None = None
        self.length_at: float | None = None
        self.first_item_at: float | None = None
        self.forget()

    def forget(self) -> None:
        """Forget all but what succeeded and what was spent."""
        self.failed = self.absorbed = self.skipped = self.cancelled_items = 0
        self.open = OpenItems()
        self.again: dict[int, Again] = {}
        self.latest: Again | None = None
        self.ended_as: State | None = None
        self.failure: FirstFailure | None = None
        self.is_broken_inside = False
        self.trouble = ""
        self.cause, self.is_not_chosen, self.is_unneeded = -1, False, False
        self.ended_at: float | None = None
        self.claimed_at: float | None = None
        self.first_entry = self.last_entry = NO_ENTRY

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
            return self.cancelled_items
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
        return self.closed + self.running + (LENGTH_ONLY in self.open.claims)

    @property
    def error(self) -> str:
        """Its first error in one line, or why it was skipped; while it waits, the latest; else empty."""
        if self.failure is not None:
            return self.failure.error
        if self.cause >= 0:
            return self._why_skipped()
        return self.trouble if self.open.waiting or self.ended_as is State.CANCELLED else ""

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
        is_claim = self.first_entry == NO_ENTRY or self.inside
        return self.claimed_at if is_claim else self.log.started_at[self.first_entry]

    @property
    def finished_at(self) -> float | None:
        """End of a plain step's last attempt; else when it ended."""
        if self.ended_at is None or self.last_entry == NO_ENTRY or self.node.is_map:
            return self.ended_at
        return self.log.finished_at[self.last_entry]

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
