"""What runs should do, said a second time in plain Python: no lanes, no counters, no cursors.

A `World` hears of every call of a verb and of its answer. It asserts that the answer was right, and says where every
item must be now. A `Told` hears a run's events, and asserts that each change that they tell is in the table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from celeryflow.graph.model import Edge, Event, Graph, Input, Node, Role
from celeryflow.graph.states import RUN_TRANSITIONS, TRANSITIONS, State
from celeryflow.store.claims import STILL_RUNNING, Claim, Item, Result

Unit = tuple[int, int]
"""A node and one of its items: 0 of a step, -1 for reading the length of a map."""

Range = tuple[int, int, int]
"""A node, its first item, and how many."""

READING = -1

OUTCOME_STATES = {
    "success": State.SUCCESS,
    "length": State.SUCCESS,
    "failure": State.FAILURE,
    "absorbed": State.FAILURE,
    "upstream": State.SKIPPED,
    "omitted": State.SKIPPED,
}


def units_of(ranges: Sequence[Range]) -> list[Unit]:
    """The units that ranges are made of."""
    return [(node, item) for node, start, count in ranges for item in range(start, start + count)]


@dataclass(repr=False)
class Run:
    """One run: what is known of its nodes, and where each unit is.

    A unit that is neither `claimed` nor `delayed` nor `committed` is ready or waits, as its inputs say.

    Attributes
    ----------
    codes : sequence of str
        The code of each node; what ran with one says how long the others with it take.
    lengths, ends : dict
        Number of items of each map where known, and the state of each node that has ended.
    delayed : dict of Unit to bool
        Units that are tried again later, and whether that time has come.
    committed, records : dict
        The outcome of each unit, and what was stored for it, under which item.
    begun : set of int
        Nodes of which something was claimed.
    measured : set of str
        Codes that were seen to be quick.
    alone : dict of str to int
        So many units of that code are claimed one at a time first, since a worker died.
    choices : dict of int to int
        What each decision came to.
    generation : int
        One more for each resume.
    untold : set of int
        Nodes of arms not taken that the run's end left as they were.
    stored : dict
        The latest record of each step, also of an earlier generation: who is claimed ahead of its input gets that.
    """

    name: str
    graph: Graph
    codes: Sequence[str]
    status: State = State.PENDING
    lengths: dict[int, int] = field(default_factory=dict)
    ends: dict[int, State] = field(default_factory=dict)
    claimed: set[Unit] = field(default_factory=set)
    delayed: dict[Unit, bool] = field(default_factory=dict)
    committed: dict[Unit, str] = field(default_factory=dict)
    records: dict[Unit, tuple[Item, bytes]] = field(default_factory=dict)
    exceptions: Counter[Unit] = field(default_factory=Counter)
    losses: Counter[Unit] = field(default_factory=Counter)
    begun: set[int] = field(default_factory=set)
    measured: set[str] = field(default_factory=set)
    alone: Counter[str] = field(default_factory=Counter)
    choices: dict[int, int] = field(default_factory=dict)
    generation: int = 1
    untold: set[int] = field(default_factory=set)
    stored: dict[Unit, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lengths.update({n.index: n.length for n in self.graph.nodes if n.length is not None})
        self.spread()

    # --- where things are --------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return not RUN_TRANSITIONS[self.status]

    def units(self, node: Node) -> list[Unit]:
        """The units that a node has, as far as is known."""
        if not node.is_map:
            return [(node.index, 0)]
        if node.index in self.lengths:
            return units_of([(node.index, 0, self.lengths[node.index])])
        return [(node.index, READING)] if node.is_planned else []

    def missing(self, node: Node) -> list[int]:
        """The nodes that it waits for as a whole, or for their length."""
        return [needed.node for needed in node.inputs if not self._has_given(needed)]

    def _has_given(self, needed: Input) -> bool:
        end = self.ends.get(needed.node)
        if needed.edge is Edge.ENDED:
            return end is not None
        if needed.edge in (Edge.WHOLE, Edge.CHOICE):
            return end is State.SUCCESS and not self._is_not_chosen(needed)
        return needed.edge is Edge.ITEMS or needed.node in self.lengths

    def _is_not_chosen(self, needed: Input) -> bool:
        return needed.edge is Edge.CHOICE and self.choices.get(needed.node, needed.choice) != needed.choice

    def is_ready(self, unit: Unit) -> bool:
        """Whether a drainer may claim it now."""
        if self.is_over or unit[0] in self.ends or self.is_placed(unit):
            return False
        node = self.graph.nodes[unit[0]]
        return not self.missing(node) and (unit[1] == READING or self._has_items(node, unit[1]))

    def is_placed(self, unit: Unit) -> bool:
        """Whether it is somewhere, whatever its inputs are."""
        return unit in self.claimed or unit in self.delayed or unit in self.committed

    def _has_items(self, node: Node, item: int) -> bool:
        return all((source, item) in self.committed for source in sources(node))

    def ready(self) -> set[Unit]:
        """All units that a drainer may claim now."""
        return {unit for node in self.graph.nodes for unit in self.units(node) if self.is_ready(unit)}

    def is_chained(self, unit: Unit, earlier: Sequence[Unit]) -> bool:
        """Whether all that it waits for is one step, claimed just before it."""
        node = self.graph.nodes[unit[0]]
        waits = not node.is_map and unit[0] not in self.ends and not self.is_placed(unit)
        return waits and [(needed, 0) for needed in self.missing(node)] == [*earlier[-1:]]

    def inputs(self, node: Node, start: int, count: int) -> dict[Item, bytes]:
        """The records that come with a claim: of steps, and of the same items of mapped maps."""
        wholes = [i.node for i in node.inputs if i.edge is Edge.WHOLE and not self.graph.nodes[i.node].is_map]
        needed = [(step, 0) for step in wholes]
        items = units_of([(source, start, count) for source in sources(node)]) if start != READING else []
        found = dict(self.records[unit] for unit in items if unit in self.records)
        return found | {step: self.stored[step] for step in needed if step in self.stored}

    # --- what moves them -----------------------------------------------------------------------

    def take(self, units: Sequence[Unit]) -> None:
        """A drainer claims them."""
        self.claimed.update(units)
        self.begun.update(node for node, _ in units)
        self.status = State.RUNNING

    def apply(self, result: Result) -> None:
        """A claim's result: in, unless the node has ended without it."""
        units, node = units_of([(result.node, result.start, result.count)]), self.graph.nodes[result.node]
        self.claimed.difference_update(units)
        if result.node in self.ends:
            return
        if not node.is_map and result.outcome != "retry":
            self.stored[units[0]] = result.record
        if result.outcome == "upstream" and not node.is_map:
            self._end(node, State.SKIPPED)
            return
        if result.outcome == "retry":
            self.exceptions[units[0]] += 1
            self.delayed[units[0]] = result.delay_s == 0
            return
        self.committed.update(dict.fromkeys(units, result.outcome))
        self.records.update(dict.fromkeys(units, ((result.node, result.start), result.record)))
        if result.outcome == "length":
            self.lengths[result.node] = result.length
        if node.role is Role.DECIDE and result.outcome == "success":
            self.choices[result.node] = result.number
        if result.outcome == "success" and result.seconds >= 0:
            self._measure(self.codes[result.node], result.count)
        self._end_if_done(node)

    def _measure(self, code: str, count: int) -> None:
        self.alone[code] -= bool(self.alone[code]) and count == 1
        if not self.alone[code]:
            self.measured.add(code)

    def wait(self) -> None:
        """Retries that are due leave `delayed`."""
        self.delayed = {unit: False for unit, is_due in self.delayed.items() if not is_due}

    def spread(self) -> None:
        """What has ended reaches what needed it: one way, from inputs to users."""
        if self.graph.fail_fast and self.failures():
            self.status = State.FAILURE
        for node in () if self.is_over else self.graph.nodes:
            if node.index not in self.ends:
                self._inherit_length(node)
                self._end_if_done(node)
                self._end_if_hopeless(node)
        if len(self.ends) == len(self.graph.nodes) and not self.is_over:
            self.status = State.FAILURE if self.failures() else State.SUCCESS

    def failures(self) -> list[int]:
        """The failed nodes that no gather takes in."""
        return [n.index for n in self.graph.nodes if n.is_fatal and self.ends.get(n.index) is State.FAILURE]

    def _inherit_length(self, node: Node) -> None:
        known = [self.lengths[source] for source in sources(node) if source in self.lengths]
        if known and not node.is_planned:
            self.lengths.setdefault(node.index, known[0])

    def _end_if_done(self, node: Node) -> None:
        outcomes = {self.committed.get(unit, "") for unit in self.units(node)}
        if outcomes and "" not in outcomes:
            is_bad, is_skipped = "failure" in outcomes, "upstream" in outcomes
            self._end(node, State.FAILURE if is_bad else State.SKIPPED if is_skipped else State.SUCCESS)
        elif self._is_idle(node):
            self._end_if_hopeless(node)
            self._end(node, State.SUCCESS)

    def _is_idle(self, node: Node) -> bool:
        """Whether it is an empty map, and all that it waits for has ended."""
        is_empty = self.lengths.get(node.index) == 0
        return is_empty and not self.missing(node) and all(source in self.ends for source in sources(node))

    def _end_if_hopeless(self, node: Node) -> None:
        """A whole input did not succeed, or a source has ended and left items out."""
        for needed in node.inputs:
            end = self.ends.get(needed.node, State.SUCCESS)
            is_bad = end is not State.SUCCESS and needed.edge is not Edge.ENDED
            is_whole = needed.edge in (Edge.WHOLE, Edge.CHOICE)
            if self._is_not_chosen(needed) or (is_bad and (is_whole or not self._has_delivered(needed.node))):
                self._end(node, State.SKIPPED)

    def _has_delivered(self, node: int) -> bool:
        units = self.units(self.graph.nodes[node])
        return node in self.lengths and bool(units) and all(unit in self.committed for unit in units)

    # --- a further generation ------------------------------------------------------------------

    def unfinished(self) -> set[int]:
        """The nodes that a resume runs again: without success, and of use to the workflow or to one of these."""
        found: set[int] = set()
        for node in reversed(self.graph.nodes):
            users = {user.index for user in self.graph.nodes for i in user.inputs if i.node == node.index}
            is_wanted = node.is_fatal or not users or bool(users & found)
            if self.ends.get(node.index) is not State.SUCCESS and is_wanted and not self.is_left_out(node):
                found.add(node.index)
        return found

    def is_left_out(self, node: Node) -> bool:
        """Whether it, or what it needs, is of an arm that a decision did not take."""
        needed = [i for i in node.inputs if i.edge in (Edge.WHOLE, Edge.CHOICE)]
        return any(self._is_not_chosen(i) or self.is_left_out(self.graph.nodes[i.node]) for i in needed)

    def resume(self) -> set[int]:
        """Begin another generation, and say which nodes it runs again."""
        again = self.unfinished()
        self.generation, self.status = self.generation + 1, State.RUNNING
        for node in again:
            self.ends.pop(node, None)
            self.choices.pop(node, None)
        is_kept = {u: u[0] not in again or (o == "success" and self._is_item(u)) for u, o in self.committed.items()}
        self.committed = {unit: outcome for unit, outcome in self.committed.items() if is_kept[unit]}
        self.records = {unit: record for unit, record in self.records.items() if is_kept[unit]}
        self.begun -= again
        self.claimed, self.delayed = set(), {}
        self.exceptions, self.losses = Counter(), Counter()
        self.spread()
        return again

    def _is_item(self, unit: Unit) -> bool:
        return self.graph.nodes[unit[0]].is_map and unit[1] != READING

    def _end(self, node: Node, state: State) -> None:
        self.ends.setdefault(node.index, state)
        self.delayed = {unit: due for unit, due in self.delayed.items() if unit[0] != node.index}


def sources(node: Node) -> list[int]:
    """The maps whose items it takes one by one."""
    return [needed.node for needed in node.inputs if needed.edge is Edge.ITEMS]


@dataclass(frozen=True)
class Held:
    """A drainer's claim."""

    token: str
    run: Run
    ranges: tuple[Range, ...]
    generation: int = 1

    @property
    def does_count(self) -> bool:
        """Whether its run goes on, in the same generation."""
        return not self.run.is_over and self.generation == self.run.generation


class World:
    """All runs and drainers of a deployment.

    `places` are the drainers that count for `max_running`; every step has the same name. `is_behind` says that the
    store has work in `pending`: it may be later than the model, never ahead of it.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.held: dict[str, Held] = {}
        self.previous: dict[str, str] = {}
        self.places: set[str] = set()
        self.is_behind = False

    def ready_for(self, drainer: str) -> list[Node]:
        """What a drainer could be given: the node of each unit that is ready in its queues."""
        ready = [run.graph.nodes[node] for run in self.runs.values() for node, _ in run.ready()]
        return [node for node in ready if is_served(drainer, node) and self._has_place(node)]

    def _has_place(self, node: Node) -> bool:
        return node.spec.max_running is None or len(self.places) < node.spec.max_running

    def claim(self, drainer: str, token: str, claim: Claim | None) -> None:
        """Hear what the claim verb gave."""
        if drainer in self.held:
            self._assert_held(drainer, claim)
        else:
            self._take(drainer, token, claim)

    def commit(
        self, drainer: str, token: str, following: str, results: Sequence[Result], answer: str, claim: Claim | None
    ) -> None:
        """Hear what the commit verb answered and gave."""
        held = self.held.get(drainer)
        if self.previous.get(drainer) == token:
            assert answer == "already"
            return self._assert_held(drainer, claim)
        if held and held.token != token:
            assert answer == "stale"
            return self._assert_held(drainer, claim)
        is_current = held is not None and held.does_count
        assert answer == ("committed" if is_current else "stale")
        if held and is_current:
            self._store(held, results)
            self.previous[drainer] = token
        self.held.pop(drainer, None)
        return self._take(drainer, following, claim)

    def release(self, drainer: str, answer: bool) -> None:
        """Hear whether a claim was handed back."""
        assert answer == (drainer in self.held)
        self._forget(drainer)

    def reap(self, drainer: str, token: str, answer: bool, started: Unit, failure: Result) -> None:
        """Hear whether a claim was taken back; `failure` is what a loss too many is."""
        held = self.held.get(drainer)
        assert answer == (held is not None and held.token == token)
        if held and answer and held.does_count:
            self._charge(held, started, failure)
        if (held.token if held else "") == token:
            self._forget(drainer)

    def cancel(self, run: str, answer: str) -> None:
        """Hear the status from before."""
        assert answer == self.runs[run].status
        if not self.runs[run].is_over:
            self.runs[run].status = State.CANCELLED

    def resume(self, run: str, answer: str) -> set[int] | None:
        """Hear whether a run that was over was resumed; the nodes that run again."""
        assert answer == ("resumed" if self.runs[run].is_over else "running")
        return self.runs[run].resume() if self.runs[run].is_over else None

    def wait(self) -> None:
        """A verb that moves on what is due was called."""
        for run in self.runs.values():
            run.wait()

    # --- parts of these --------------------------------------------------------------------------

    def _store(self, held: Held, results: Sequence[Result]) -> None:
        for result in results:
            held.run.apply(result)
        held.run.claimed.difference_update(units_of(held.ranges))
        held.run.spread()

    def _charge(self, held: Held, started: Unit, failure: Result) -> None:
        run, results = held.run, []
        if started[0] < 0:
            for node, _, count in held.ranges:
                run.alone[run.codes[node]] += count
        else:
            run.losses[started] += 1
            most = run.graph.nodes[started[0]].spec.max_worker_losses
            results = [failure] if run.losses[started] > most else []
        self._store(held, results)

    def _forget(self, drainer: str) -> None:
        held = self.held.pop(drainer, None)
        self.previous.pop(drainer, None)
        self.places.discard(drainer)
        if held and held.generation == held.run.generation:
            held.run.claimed.difference_update(units_of(held.ranges))

    def _assert_held(self, drainer: str, claim: Claim | None) -> None:
        held = self.held.get(drainer)
        found = claim and (claim.token, claim.run, ranges_of(claim))
        assert found == (held and (held.token, held.run.name, held.ranges))

    def _take(self, drainer: str, token: str, claim: Claim | None) -> None:
        self.wait()
        if token != STILL_RUNNING:
            self.places.discard(drainer)
        if claim is None:
            assert token in ("", STILL_RUNNING) or self.is_behind or not self.ready_for(drainer), (
                f"{drainer} got nothing"
            )
            return
        assert claim.token == token
        run = self.runs[claim.run]
        self._assert_best(drainer, run, claim)
        self._assert_right(run, claim)
        assert claim.generation == run.generation
        self.held[drainer] = Held(token, run, ranges_of(claim), run.generation)
        run.take(units_of(ranges_of(claim)))
        if run.graph.nodes[claim.units[0].node].spec.max_running is not None:
            self.places.add(drainer)

    def _assert_best(self, drainer: str, run: Run, claim: Claim) -> None:
        """It comes from one lane, and no other that the drainer serves has a higher priority."""
        nodes = [run.graph.nodes[unit.node] for unit in claim.units]
        ready = self.ready_for(drainer)
        assert is_served(drainer, nodes[0])
        assert self._has_place(nodes[0])
        assert len({(node.spec.queue, node.spec.priority, node.spec.max_running) for node in nodes}) == 1
        assert self.is_behind or nodes[0].spec.priority == max((node.spec.priority for node in ready), default=-1)

    def _assert_right(self, run: Run, claim: Claim) -> None:
        """Every unit is ready, or follows its last input; with it comes all that is known of it."""
        units, ready = units_of(ranges_of(claim)), run.ready()
        for place, unit in enumerate(units):
            is_right = unit in ready or run.is_chained(unit, units[:place])
            assert is_right or (self.is_behind and unit[0] in run.ends), f"{unit} is not ready"
        codes = {run.codes[node] for node, _ in units}
        assert len(units) == len({*units})
        assert len(units) == 1 or codes <= run.measured - {*+run.alone}
        for unit in claim.units:
            first, *others = units_of([(unit.node, unit.start, unit.count)])
            assert (unit.exceptions, unit.losses) == (run.exceptions[first], run.losses[first])
            assert not any(run.exceptions[other] + run.losses[other] for other in others)
            assert unit.inputs == run.inputs(run.graph.nodes[unit.node], unit.start, unit.count)


def is_served(drainer: str, node: Node) -> bool:
    """Whether a drainer's queues have that node's."""
    queues = drainer.partition("|")[0].split(",")
    return queues == ["*"] or node.spec.queue in queues


def ranges_of(claim: Claim) -> tuple[Range, ...]:
    """What a claim holds."""
    return tuple((unit.node, unit.start, unit.count) for unit in claim.units)


TOLD = {
    "claimed": State.RUNNING,
    "success": State.SUCCESS,
    "failure": State.FAILURE,
    "skipped": State.SKIPPED,
    "retrying": State.RETRYING,
    "lost": State.READY,
    "released": State.READY,
}
"""The state of a unit after each event; that it became ready is not told."""


class Told:
    """What a run's events tell."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.seq = 0
        self.status = State.PENDING
        self.units: dict[Unit, State] = defaultdict(lambda: State.PENDING)
        self.ended: set[int] = set()

    def resume(self, run: Run) -> None:
        """The next event begins another generation, which runs all but these nodes and items."""
        self.status, self.ended = State.PENDING, {*run.ends}
        self.units = defaultdict(lambda: State.PENDING, {u: OUTCOME_STATES[o] for u, o in run.committed.items()})

    def hear(self, event: Event) -> None:
        """One more event."""
        assert event.seq == self.seq + 1
        assert not self.seq or RUN_TRANSITIONS[self.status], f"{event} after the run's end"
        self.seq = event.seq
        if event.event == "stale":
            return  # it tells of an attempt that was over
        assert event.node not in self.ended, f"{event} after the node's end"
        if event.node < 0:
            self._hear_of_run(event)
        elif event.event == "length":
            self._hear_of_length(event)
        elif event.event == "settled" or (event.event == "skipped" and event.cause >= 0):
            self._hear_end(event)
        else:
            self._hear_of_units(event)

    def _hear_of_run(self, event: Event) -> None:
        status = State(event.status)
        assert event.event == "submitted" or status in RUN_TRANSITIONS[self.status]
        self.status = status

    def _hear_of_length(self, event: Event) -> None:
        if (event.node, READING) in self.units:
            self._move((event.node, READING), State.SUCCESS)

    def _hear_end(self, event: Event) -> None:
        """A whole node: of a map that settles every item has ended, and a skipped one had none that ran."""
        for unit, state in self.units.items():
            if unit[0] == event.node and not state.is_terminal:
                assert event.event == "skipped"
                self._move(unit, State.SKIPPED)
        self.ended.add(event.node)

    def _hear_of_units(self, event: Event) -> None:
        for unit in units_of([(event.node, event.start, event.count)]):
            self._move(unit, TOLD[event.event])
        is_node = not self.graph.nodes[event.node].is_map or event.start == READING
        if is_node and TOLD[event.event].is_terminal:
            self.ended.add(event.node)

    def _move(self, unit: Unit, state: State) -> None:
        now = self.units[unit]
        steps = TRANSITIONS[now]
        if now in (State.PENDING, State.RETRYING):
            steps |= TRANSITIONS[State.READY]
        assert state in steps, f"{unit}: {now} -> {state}"
        self.units[unit] = state
