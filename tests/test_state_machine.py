"""The state machine: random workflows and schedules on a real server, against a model in plain Python."""

from __future__ import annotations

import os

import pytest
import redis
from executions import wait_until
from hypothesis import Phase
from lua_variants import TINY_BUDGET, VARIANTS, Change, change
from model import READING, Run
from schedules import explore, resume
from stores import DRAINER, SPEC, WORKER, end_first, make_result, publish, steps, told, work_off
from wirings import BRANCH, Wiring, wire

from celeryflow.graph.model import Edge, Graph, Input, Node, Role
from celeryflow.store.scripts import Store

EXAMPLES = int(os.environ.get("CELERYFLOW_EXAMPLES", "0"))
"""So many random examples instead of the usual ones, which are the same each time."""


@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("changes", [[], [TINY_BUDGET]], ids=["usual budget", "tiny budget"])
def test_schedules(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, changes: list[Change], examples: int) -> None:
    change(monkeypatch, changes)
    explore(client, EXAMPLES or examples, (Phase.generate, Phase.shrink), is_random=EXAMPLES > 0)


@pytest.mark.slow_fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_variant_is_caught(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    change(monkeypatch, VARIANTS[name])
    with pytest.raises((AssertionError, redis.ResponseError)):
        explore(client, 1000, (Phase.generate,))


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
        store.client.zadd(f"{store.keys.prefix}:delayed", {"run|4|retry|-1|1": 1})
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


def test_lengths_that_the_end_of_a_run_kept_back_are_known_to_the_next_generation(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given maps over a map, one of which has not heard of its length when the run is cancelled.
    change(monkeypatch, [TINY_BUDGET])
    graph = wire([((), ()), ((0,), ()), ((1,), ()), ((1,), ())], 0, [("fast", 5, 3)] * 4)
    publish(store, graph)
    end_first(store, "success")
    store.claim(DRAINER, "second", WORKER)
    store.commit(DRAINER, "second", "", WORKER, [make_result((1, READING), "length", length=2)])
    assert store.client.exists(f"{store.keys.prefix}:pending")
    store.cancel("run", "enough")
    # When it is resumed.
    assert resume(store, Run("run", graph, ["code"] * 4))[0] == "resumed"
    # Then it comes to its end.
    for _ in range(20):
        work_off(store, DRAINER)
    assert store.meta("run")["status"] == b"success"
    assert store.chunks("run", 2, 0, 2) == store.chunks("run", 3, 0, 2) == [0, 1]


def test_an_arm_that_was_not_taken_stays_so_where_the_run_ended_before_it_was_told(store: Store) -> None:
    # Given a decision that is committed with a failure which ends the run.
    graph = wire([((), ()), ((BRANCH, 0, 0), (0,)), ((), ())], 0, [("fast", 5, 3)] * 3)
    publish(store, graph)
    store.client.hset(store.keys.run("run", "meta"), "fail_fast", 1)
    store.client.hset(store.keys.run("run", "estimates"), "code", 0.0001)
    end_first(store, "success")
    _, claim = store.claim(DRAINER, "second", WORKER)
    assert claim is not None
    assert {unit.node for unit in claim.units} == {1, 5}
    results = [make_result((1, 0), "success", number=1), make_result((5, 0), "failure")]
    store.commit(DRAINER, "second", "", WORKER, results)
    # When it is resumed.
    answer, rest = resume(store, Run("run", graph, ["code"] * 6, choices={1: 1}))
    # Then the other arm runs, and this one does not.
    assert (answer, rest.again) == ("resumed", [3, 4, 5])
    work_off(store, DRAINER)
    assert store.meta("run")["status"] == b"success"
    assert store.client.get(store.keys.run("run", "state")) == b"ss.sss"


def test_a_claim_of_an_earlier_generation_counts_no_more(store: Store) -> None:
    graph = steps([()])
    publish(store, graph)
    store.claim(DRAINER, "token", WORKER)
    store.cancel("run", "enough")
    assert resume(store, Run("run", graph, ["code"]))[0] == "resumed"
    answer, _, _ = store.commit(DRAINER, "token", "", WORKER, [make_result((0, 0), "success")])
    assert answer == "stale"
    assert store.meta("run")["status"] == b"running"
    work_off(store, DRAINER)
    assert store.meta("run")["status"] == b"success"


def test_a_retry_of_an_earlier_generation_counts_no_more(store: Store) -> None:
    graph = steps([()])
    publish(store, graph)
    store.claim(DRAINER, "first", WORKER)
    store.commit(DRAINER, "first", "", WORKER, [make_result((0, 0), "retry", delay_s=1000)])
    store.cancel("run", "enough")
    assert resume(store, Run("run", graph, ["code"]))[0] == "resumed"
    assert store.claim(DRAINER, "token", WORKER)[1] is not None
    delayed = f"{store.keys.prefix}:delayed"
    store.client.zadd(delayed, dict.fromkeys(store.client.zrange(delayed, 0, -1), 1))  # the retry is due
    for drainer in ("*|w|1", "*|w|2"):
        assert store.claim(drainer, "token", WORKER) == (False, None)


def test_a_result_that_comes_after_its_claim_was_taken_back_is_told_once(store: Store) -> None:
    publish(store, steps([(), ()]))
    store.claim(DRAINER, "token", WORKER)
    assert store.reap(DRAINER, "token", "silent", WORKER, (0, 0))
    for _ in range(2):
        answer, _, _ = store.commit(DRAINER, "token", "", WORKER, [make_result((0, 0), "success", attempt=1)])
        assert answer == "stale"
    last = told(store)[-1]
    assert (last.event, last.node, last.start, last.worker) == ("stale", 0, 0, WORKER)
    assert [event.event for event in told(store)].count("stale") == 1


def test_steps_of_a_lost_claim_run_alone_and_then_together_again(store: Store) -> None:
    publish(store, steps([()] * 40))
    store.client.hset(store.keys.run("run", "estimates"), "code", 0.001)
    _, lost = store.claim(DRAINER, "lost", WORKER)
    assert lost is not None and len(lost.units) > 2
    store.reap(DRAINER, "lost", "gone", WORKER, (-1, -1))

    _, claim = store.claim(DRAINER, "first", WORKER)
    for number, _ in enumerate(lost.units):
        assert claim is not None
        assert [unit.node for unit in claim.units] == [lost.units[number].node]
        done = make_result((claim.units[0].node, 0), "success", seconds=0.001)
        _, _, claim = store.commit(DRAINER, claim.token, f"token {number}", WORKER, [done])

    assert claim is not None and len(claim.units) > 2


@pytest.mark.parametrize("verb", ["lost", "retrying"])
def test_what_is_tried_again_says_the_how_manieth_time_it_is(store: Store, verb: str) -> None:
    publish(store, steps([()]))
    for number in range(1, 4):
        _, claim = store.claim(DRAINER, f"token {number}", WORKER)
        assert claim is not None
        if verb == "lost":
            store.reap(DRAINER, claim.token, "gone", WORKER, (0, 0))
        else:
            store.commit(DRAINER, claim.token, "", WORKER, [make_result((0, 0), "retry")])
    assert [event.tries for event in told(store) if event.event == verb] == [1, 2, 3]


def test_a_decision_that_loses_too_many_workers_fails_and_chooses_nothing(store: Store) -> None:
    publish(store, wire([((), ()), ((BRANCH, 0, 0), (0,))], 0, [("fast", 5, 0)] * 2))
    end_first(store, "success")
    store.claim(DRAINER, "token", WORKER)
    assert store.reap(DRAINER, "token", "it died", WORKER, (1, 0), 1, b"record")
    assert store.meta("run")["status"] == b"failure"
    assert store.client.get(store.keys.run("run", "state")) == b"sfkkk"


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


@pytest.mark.parametrize(("count", "tickets"), [(8, 0), (33, 0), (34, 1), (97, 2)])
def test_event_loop_that_has_begun_calls_others_only_for_more_than_it_runs(
    store: Store, count: int, tickets: int
) -> None:
    publish(store, wire([((), ())] * count, 0, [("waits~32", 5, 0)] * count))
    store.renew("w", "*", 4, [], [])
    store.client.delete(f"{store.keys.prefix}:group:*:tickets")
    assert store.claim("*|w|1", "token", WORKER)[1] is not None
    assert len(store.renew("w", "*", 4, [], []).tickets) == tickets
    if not tickets:  # the loop asks for no more
        wait_until(lambda: len(store.renew("w", "*", 4, [], []).tickets) == 1)


def test_no_lease_runs_out_while_the_server_slept(store: Store) -> None:
    publish(store, steps([()]))
    store.claim(DRAINER, "token", WORKER)
    store.renew("w", "*", 1, [], [])
    store.client.set(f"{store.keys.prefix}:beat", 1)
    store.client.zadd(store.keys.leases, {DRAINER: 1})
    assert store.renew("w", "*", 1, [], []).expired == []
    assert store.renew("w", "*", 1, [], []).expired == []


def test_a_deadline_that_begins_while_no_supervisor_is_there_counts_from_the_next_beat(store: Store) -> None:
    store.client.set(f"{store.keys.prefix}:beat", 1)  # as a runtime of another day left it
    gather = Node(
        index=1, name="gather", spec=SPEC, inputs=(Input(node=0, edge=Edge.ENDED),), role=Role.GATHER, deadline_s=0.2
    )
    publish(store, Graph(name="late", nodes=(Node(index=0, name="slow", spec=SPEC), gather)))
    assert store.renew("w", "*", 1, [], []).due == []
    wait_until(lambda: store.renew("w", "*", 1, [], []).due == ["run|9"])


def test_the_fourth_lost_worker_poisons(store: Store) -> None:
    publish(store, steps([()]))
    for token in "1234":
        assert store.meta("run")["status"] != b"failure"
        store.claim(DRAINER, token, WORKER)
        assert store.reap(DRAINER, token, "it died", WORKER, (0, 0), 1, b"record")
    assert store.meta("run")["status"] == b"failure"
    assert store.outputs("run", [(0, 0)]) == [b"record"]
