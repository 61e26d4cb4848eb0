"""Snapshot: all that is known of a run, a pure fold of its events over its graph."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from celeryflow.errors import UnknownStepError, did_you_mean
from celeryflow.graph.model import Event, Graph, Node
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import AttemptLog, MarkLog, outcome_of
from celeryflow.runtime.snapshot.open_items import LENGTH_ONLY, Claim
from celeryflow.runtime.snapshot.record import FirstFailure, StepRecord
from celeryflow.runtime.snapshot.summary import Summary, first_failure, summarise
from celeryflow.runtime.snapshot.trail import CodeLine
from celeryflow.runtime.snapshot.verbs import VERBS, end_state, know_length, reopen, rerun, stop


class Snapshot:
    """What is known of a run after some of its events.

    Nothing else tells a run's state: frames, text and pictures are functions of a Snapshot, so
    they say the same. Applying events one by one or all at once gives the same Snapshot, and an
    event that was seen before changes nothing.

    Parameters
    ----------
    graph : Graph
        The workflow that runs.
    run_id : str
        Id of the run.

    Attributes
    ----------
    status : State
        Of the run.
    generation : int
        1, and one more for each resume.
    last_seq : int
        `seq` of the latest event; 0 before the first.
    last_at, submitted_at, started_at, finished_at : float or None
        Seconds since 1970 UTC: of the latest event, of the submit, of the latest start or
        resume, and of the end.
    reason : str
        Why the run ended, where its end says so.
    stopped : list of (int, int, Claim)
        What workers held when the run ended: node, first item, and how many, by whom. Where its time was over and they
        held nothing of it: what waited for them.
    floors : dict of int to float
        When each generation began: by submit or resume.
    steps : list of StepRecord
        One for each node, in the graph's order; then those that were added while the run went on.
    nodes : dict of int to Node
        All of these nodes, by their indices.
    attempts : AttemptLog
        Every ended attempt.
    marks : MarkLog
        Items that ended without an attempt.
    unserved : dict of str to list of str
        Queues that no worker served when the snapshot was taken, and the first steps that were ready in them.
    trail : tuple of CodeLine
        Where the user's own code raised the failure that views show. This and `unserved` are what no event tells.

    Examples
    --------
    >>> from celeryflow.graph.model import Node, StepSpec
    >>> load = Node(index=0, name="load", spec=StepSpec(name="load", label="load"))
    >>> snapshot = Snapshot(Graph(name="etl", nodes=(load,)), "etl-1")
    >>> snapshot.apply(Event(seq=1, at=0.0, event="submitted"))
    >>> snapshot.apply(Event(seq=2, at=0.1, event="claimed", node=0))
    >>> snapshot.steps[0].status
    <State.RUNNING: 'running'>
    """

    def __init__(self, graph: Graph, run_id: str) -> None:
        self.graph, self.run_id = graph, run_id
        self.status, self.generation, self.last_seq = State.PENDING, 1, 0
        self.last_at: float | None = None
        self.submitted_at: float | None = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.reason = ""
        self.stopped: list[tuple[int, int, Claim]] = []
        self.unserved: dict[str, list[str]] = {}
        self.misfits = ""
        self.trail: tuple[CodeLine, ...] = ()
        self.floors: dict[int, float] = {}
        self.attempts, self.marks = AttemptLog(), MarkLog()
        self.steps: list[StepRecord] = []
        self.nodes: dict[int, Node] = {}
        self._records: dict[int, StepRecord] = {}
        self._followers: dict[int, list[StepRecord]] = defaultdict(list)
        self._add(graph.nodes)

    def _add(self, nodes: Iterable[Node], at: float | None = None, part: tuple[int, int] = (-1, -1)) -> None:
        added = [StepRecord(node, self.attempts, self.marks) for node in nodes if node.index not in self.nodes]
        for record in added:
            record.queued_from, record.part = at, part
            self.nodes[record.node.index] = record.node
            self._records[record.node.index] = record
            self._count_in(record.node)
        for record in added:
            self._wire(record)
        self.steps += added

    def _count_in(self, node: Node) -> None:
        """Tell those that added a node, one around the other, that they have one more inside."""
        while node.parent >= 0:
            self._records[node.parent].inside += 1
            node = self.nodes[node.parent]

    def _wire(self, record: StepRecord) -> None:
        """Connect a record to its inputs, and to the map whose length is its own."""
        node = record.node
        record.inputs = tuple((self._records[i.node], i.edge) for i in node.inputs)
        if node.source is not None:
            record.length = self._records[node.source].length if record.length is None else record.length
            self._followers[node.source].append(record)

    # --- folding -----------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event in. Events come in the order of `seq`; one that was seen is left out."""
        if event.seq <= self.last_seq:
            return
        self.last_seq, self.last_at = event.seq, event.at
        if event.generation < self.generation:
            event = replace(event, generation=self.generation)
        if event.node < 0:
            self._apply_to_run(event)
        elif event.node in self._records:
            record = self._records[event.node]
            if event.nodes:
                self._add(event.nodes, event.at, (event.start, event.part))
            if record.ended_as is not None and event.generation > record.ended_in:
                rerun(record, event)
            verb = VERBS.get(event.event)
            if verb is not None:
                verb(record, event)
            if event.event == "length":
                self._pass_length_on(event)
            if event.event == "failure" and event.kind != "cancelled":
                self._tell_those_around(record)

    def apply_all(self, events: Iterable[Event]) -> None:
        """Take these events in, one after the other."""
        for event in events:
            self.apply(event)

    def _apply_to_run(self, event: Event) -> None:
        if event.event == "submitted":
            self._submit(event)
        elif event.event == "started":
            self._start(event)
        elif event.event == "ended":
            self.status, self.finished_at = end_state(event.status), event.at
            self.reason = event.error
            held = [(r.node.index, *held) for r in self.steps for held in sorted(r.open.claims.items())]
            self.stopped = held or [*self._kept_waiting(event)]
            outcome = outcome_of(self.end_kind)
            for record in self.steps:
                stop(record, event.at, event.generation, event.error, outcome)

    def _kept_waiting(self, event: Event) -> Iterator[tuple[int, int, Claim]]:
        """What waited for a worker when the run's time was over, so that it is told why a run failed that never ran."""
        for record in self.steps if self.end_kind == "deadline" else ():
            if record.status in (State.READY, State.RETRYING):
                start = LENGTH_ONLY if record.node.is_map else 0
                yield record.node.index, start, Claim(1, record.attempt, event.generation, "", event.at)

    @property
    def end_kind(self) -> str:
        """Why what was under way at the run's end was stopped: ``deadline``, else ``cancelled``."""
        return "deadline" if self.reason.startswith("deadline") else "cancelled"

    def _submit(self, event: Event) -> None:
        if self.submitted_at is not None:
            return
        self.submitted_at = self.floors[event.generation] = event.at
        for record in self.steps:
            record.queued_from = event.at

    def _start(self, event: Event) -> None:
        self.status, self.started_at = State.RUNNING, event.at
        self.finished_at, self.reason, self.stopped = None, "", []
        if event.generation > self.generation:
            self.generation = event.generation
            self.floors[event.generation] = event.at
            for node in self.unfinished():
                reopen(self._records[node], event.at, event.generation)

    def _pass_length_on(self, event: Event) -> None:
        """A map over a map has as many items as that one."""
        for record in self._followers.get(event.node, ()):
            know_length(record, event)
            self._pass_length_on(_for_node(event, record.node.index))

    def _tell_those_around(self, failed: StepRecord) -> None:
        """Let those that added a step know that it failed, if that matters."""
        node = failed.node
        while node.parent >= 0 and failed.failure and not failed.failure.is_absorbed:
            self._records[node.parent].is_broken_inside = True
            node = self.nodes[node.parent]

    # --- reading -----------------------------------------------------------------------------

    def record(self, step: str) -> StepRecord:
        """The record of a step by its name.

        Raises
        ------
        UnknownStepError
            The graph has no step of that name.
        """
        for record in self.steps:
            if record.node.name == step:
                return record
        hint = did_you_mean(step, [record.node.name for record in self.steps])
        raise UnknownStepError(f"run {self.run_id!r} has no step {step!r}.{hint}")

    def record_of(self, node: int) -> StepRecord:
        """The record of the node with this index."""
        return self._records[node]

    @property
    def top(self) -> list[StepRecord]:
        """The steps that the workflow's body called; what these added is part of them."""
        return [record for record in self.steps if not record.node.depth]

    def unfinished(self) -> set[int]:
        """Nodes that a resume runs again: all that did not succeed, where they matter.

        What a branch left out does not, nor does a failure that a gather has taken in.
        """
        users: dict[int, list[int]] = defaultdict(list)
        for node in self.nodes.values():
            for needed in node.inputs:
                users[needed.node].append(node.index)
        for node in self.nodes.values():
            if node.parent >= 0 and not users[node.index]:
                users[node.index].append(node.parent)
        found: set[int] = set()
        # What a node added comes after it, and before it in this order, where only its parent needs it.
        for record in sorted(self.steps, key=lambda r: (-r.node.depth, r.node.index), reverse=True):
            if record.status is State.SUCCESS or record.is_left_out:
                continue
            mine = users[record.node.index]
            if record.node.is_fatal or not mine or not found.isdisjoint(mine):
                found.add(record.node.index)
        return found

    def counts(self) -> dict[State, int]:
        """How many steps are in each state; every state is there."""
        counts = dict.fromkeys(State, 0)
        for record in self.steps:
            counts[record.status] += 1
        return counts

    @property
    def progress(self) -> float:
        """Share of the run that ended, 0 to 1, each step weighing the same."""
        return self.total().progress

    def total(self, now: float | None = None) -> Summary:
        """The whole run in one line: all its steps together."""
        return self._summed(self.graph.name, self.top, now)

    def phases(self, now: float | None = None) -> list[Summary]:
        """One summary a phase, in order; steps outside a phase are in none.

        Parameters
        ----------
        now : float or None
            The server's time, until which what still runs lasts; None for the latest event's.
        """
        members: dict[str, list[StepRecord]] = {phase: [] for phase in self.graph.phases}
        for record in self.top:
            if record.node.phase is not None:
                members.setdefault(record.node.phase, []).append(record)
        return [self._summed(phase, records, now) for phase, records in members.items()]

    def _summed(self, name: str, records: list[StepRecord], now: float | None) -> Summary:
        """Several steps in one line; they failed together where one failed that they added, though they are skipped."""
        found = summarise(name, records, self._now(now))
        is_failure = found.status.is_terminal and any(r.is_broken_inside for r in records)
        return dataclasses.replace(found, status=State.FAILURE) if is_failure else found

    def step_summaries(self, now: float | None = None) -> list[Summary]:
        """One summary a step, in order."""
        return [summarise(r.node.name, [r], self._now(now)) for r in self.steps]

    def rows(self, now: float | None = None) -> list[Summary]:
        """What a view lists: the phases, then each step that is in none."""
        outside = [r for r in self.top if r.node.phase is None]
        return self.phases(now) + [summarise(r.node.name, [r], self._now(now)) for r in outside]

    def first_failure(self) -> tuple[FirstFailure | None, int]:
        """The failure that a view shows, and the index of its step; None and -1 without one."""
        return first_failure(self.steps)

    def duration_s(self, now: float | None = None) -> float | None:
        """From the latest start or resume to the end, or to `now`; None before the start."""
        start = self.submitted_at if self.started_at is None else self.started_at
        if start is None:
            return None
        return max(0.0, (self._now(now) if self.finished_at is None else self.finished_at) - start)

    def _now(self, now: float | None) -> float:
        return now if now is not None else (self.last_at or 0.0)


def _for_node(event: Event, node: int) -> Event:
    return Event(seq=event.seq, at=event.at, event="length", node=node, count=event.count)
