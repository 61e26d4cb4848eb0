"""Random schedules: drainers that do whatever they may, on a server and in the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from invariants import Found, check_told
from model import READING, Held, Run, Told, Unit, World, sources, units_of
from msgspec.structs import replace
from stores import DRAINERS, WORKER, make_result, prefixes, seal
from wirings import graphs

from celeryflow.engine.read import Outcome, Reader
from celeryflow.graph.model import Edge, Role
from celeryflow.graph.states import State
from celeryflow.runtime.remains import find_rest
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.store import events
from celeryflow.store.claims import STILL_RUNNING, Result
from celeryflow.store.generations import Rest, begin
from celeryflow.store.scripts import Store
from celeryflow.values.vault import FAILURE, VALUE


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
        following = self.draw("", STILL_RUNNING, next(self.tokens), next(self.tokens), next(self.tokens))
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
        self.used[drainer] += [following] if following not in ("", STILL_RUNNING) else []

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

    def resume(self) -> None:
        self._catch_up()
        open_runs = [run for run in self.world.runs.values() if run.status is not State.SUCCESS]
        if open_runs:
            run = self.draw(*open_runs)
            for _ in range(self.draw(1, 1, 2)):
                self._resume(run)

    def _resume(self, run: Run) -> None:
        self._listen(run)
        answer, rest = resume(self.store, run)
        again = self.world.resume(run.name, answer)
        if again is not None:
            assert {*rest.again} == again
            state = self.store.client.get(self.store.keys.run(run.name, "state")).decode()
            run.untold = {n.index for n in run.graph.nodes if run.is_left_out(n) and state[n.index] != "k"}
            self.told[run.name].resume(run)

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
        facts = {"number": self._draw_choice(held.run, unit[0])} if outcome in ("success", "upstream") else {}
        return make_result(unit, outcome, seconds=self.draw(0.001, 0.001, 1) if outcome == "success" else -1, **facts)

    def _draw_choice(self, run: Run, node: int) -> int:
        """The arm that a decision takes, or the input that a step has no value for."""
        arms = {i.choice for n in run.graph.nodes for i in n.inputs if (i.node, i.edge) == (node, Edge.CHOICE)}
        return self.draw(*sorted(arms)) if arms else next((i.node for i in run.graph.nodes[node].inputs), -1)

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
        places = self.client.smembers(f"{self.store.keys.prefix}:running:work")
        assert {drainer.decode() for drainer in places} == self.world.places
        for run in self.world.runs.values():
            self._check_run(run)
            if not run.is_over:
                self.late = (self.late | {run.name}) if self.world.is_behind else (self.late - {run.name})

    def _check_run(self, run: Run) -> None:
        found = Found(self.store, run)
        told = self._listen(run)
        is_late = self.world.is_behind or run.name in self.late
        assert self.world.is_behind or found.status == told.status == run.status
        ended = {*run.ends} - run.untold
        assert told.ended == ended or (is_late and told.ended < ended)
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
            return make_result(unit, "success", number=self._draw_choice(run, unit[0]))
        outcome = outcomes_of(run, unit)[0]
        length = self._draw_length(run, unit[0]) if outcome == "length" else 0
        return make_result(unit, outcome, length=length)

    def _leftovers(self) -> list[str]:
        """Keys of queues, lanes and drainers, and of delayed or pending work."""
        return [key for key in self._keys() if any(part in key for part in QUEUE_KEYS)]

    def _keys(self) -> list[str]:
        return [key.decode() for key in self.client.keys(f"{self.store.keys.prefix}:*")]


QUEUE_KEYS = (
    ":lane:",
    ":claim:",
    ":delayed",
    ":pending",
    ":queue:",
    ":leases",
    ":drainers",
    ":idle",
    ":running:",
    ":queues",
)

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
    Schedule.resume,
]


def resume(store: Store, run: Run) -> tuple[str, Rest]:
    """Begin the next generation, as clients do."""
    snapshot = Snapshot(run.graph, run.name)
    for page in events.replay(store, run.name):
        snapshot.apply_all(page)
    rest = find_rest(snapshot, Stored(store, run), {})
    return begin(store, run.name, snapshot.generation, rest, "owner"), rest


class Stored(Reader):
    """What is stored of a run, as far as a resume asks: kinds of records, which are not signed here."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run, self.known, self._run = store, run.name, {}, run

    def kinds(self, node: int, count: int) -> list[tuple[str, bytes]]:
        outcomes = [self._run.committed.get((node, item), "") for item in range(count)]
        return [(KINDS.get(outcome, outcome), b"") for outcome in outcomes]

    def outcome(self, node: int, start: int = 0) -> Outcome:
        return Outcome(VALUE, self._run.choices[node])


KINDS = {"success": VALUE, "failure": FAILURE, "absorbed": FAILURE}


def outcomes_of(run: Run, unit: Unit) -> list[str]:
    """How a unit may end, the usual ends more often."""
    node = run.graph.nodes[unit[0]]
    mapped = sources(node)
    if unit[1] == READING:
        lengths = {run.lengths[source] for source in mapped}
        return ["failure"] if len(lengths) > 1 else ["length", "length", "length", "failure", "retry"]
    usual = ["success", "success", "success", "failure", "retry"]
    if node.role is Role.PICK:
        return ["success", "success", "upstream"]
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
