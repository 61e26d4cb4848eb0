"""Steps with a quota: what a submit sets aside, what is refused, and that nothing has to be given back."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from stores import DRAINER, WORKER, make_result, publish, told

import celeryflow as cf
from celeryflow.graph.model import Edge, Graph, Input, Node, NodeKind, Role, StepSpec
from celeryflow.store.collect import expire_runs
from celeryflow.store.generations import Rest, begin
from celeryflow.store.scripts import Store


def flow(*items: int, name: str = "acme", most: int = 10) -> Graph:
    """Maps of so many items, each with that quota, and a gather of all of them."""
    spec = StepSpec(name="work", label="work", quota=(name, most))
    maps = [
        Node(index=i, name=f"work-{i}", spec=spec, kind=NodeKind.MAP, length=n, is_fatal=False)
        for i, n in enumerate(items)
    ]
    ends = tuple(Input(node=i, edge=Edge.ENDED) for i in range(len(items)))
    last = Node(index=len(items), name="gather", spec=StepSpec(name="g", label="g"), inputs=ends, role=Role.GATHER)
    return Graph(name="flow", nodes=(*maps, last))


def entries(store: Store, name: str = "acme") -> dict[bytes, bytes]:
    return store.client.hgetall(f"{store.keys.prefix}:quota:{name}")


def is_admitted(store: Store, run: str, node: int = 0) -> bool:
    return not store.refusal(run, node)


def test_what_is_in_flight_in_any_run_counts(store: Store) -> None:
    publish(store, flow(6), "first")
    publish(store, flow(4), "second")
    publish(store, flow(1), "third")
    publish(store, flow(6, name="bolt"), "fourth")

    assert [is_admitted(store, run) for run in ("first", "second", "third", "fourth")] == [True, True, False, True]
    assert store.refusal("third", 0) == "over quota: asked for 1 items, 10 in use, quota 10"
    assert entries(store) == {b"first|0": b"6", b"second|0": b"4"}


def test_what_is_refused_is_cancelled_and_its_gather_goes_on(store: Store) -> None:
    publish(store, flow(6, 5, 4))

    refused = [event for event in told(store) if event.event == "cancelled"]
    assert [(event.node, event.error) for event in refused] == [
        (1, "over quota: asked for 5 items, 6 in use, quota 10")
    ]
    assert [state for state, _ in store.states("run", [0, 1, 2, 3])] == ["r", "c", "r", "."]
    for _ in range(2):
        _, claim = store.claim(DRAINER, "token", WORKER)
        while claim is not None and claim.units[0].node < 3:
            unit = claim.units[0]
            result = make_result((unit.node, unit.start), "success", durations_s=(0.0,) * unit.count)
            _, _, claim = store.commit(DRAINER, claim.token, f"{unit.node}-{unit.start}", WORKER, [result])
    assert claim is not None
    assert claim.units[0].node == 3
    assert entries(store) == {b"run|0": b"6", b"run|2": b"4"}
    publish(store, flow(10), "next")
    assert is_admitted(store, "next")
    assert entries(store) == {b"next|0": b"10"}


@pytest.mark.parametrize("end", ["cancel", "park", "lose"])
def test_a_run_that_is_over_holds_nothing(store: Store, end: str) -> None:
    publish(store, flow(10), "first")
    if end == "cancel":
        store.cancel("first", "enough")
    elif end == "park":
        store.park("first")  # as a runtime does that finds its notebook dead
    else:
        store.client.delete(store.keys.run("first", "meta"))
    publish(store, flow(10), "second")

    assert is_admitted(store, "second")


def test_a_resumed_run_asks_again(store: Store) -> None:
    publish(store, flow(6), "run")
    store.cancel("run", "enough")
    publish(store, flow(6), "other")
    rest = Rest(again=[0, 1], ready=[0], missing={0: 1, 1: 1}, lengths={0: 6})
    assert begin(store, "run", 1, rest, "me") == "resumed"
    assert store.refusal("run", 0) == "over quota: asked for 6 items, 6 in use, quota 10"

    store.cancel("other", "enough")
    store.cancel("run", "enough")
    assert begin(store, "run", 2, rest, "me") == "resumed"
    publish(store, flow(5), "third")
    assert store.refusal("third", 0) == "over quota: asked for 5 items, 6 in use, quota 10"


def test_an_expired_run_leaves_no_entry(store: Store) -> None:
    publish(store, flow(6))
    store.cancel("run", "enough")
    assert entries(store) == {b"run|0": b"6"}
    store.client.zadd(store.keys.expiring, {"run": 1})

    assert expire_runs(store) == ["run"]
    assert entries(store) == {}


def test_a_key_of_another_type_is_put_aside(store: Store) -> None:
    store.client.set(f"{store.keys.prefix}:quota:acme", "nonsense")
    publish(store, flow(6))

    assert entries(store) == {b"run|0": b"6"}
    assert store.client.get(f"{store.keys.prefix}:stray:quota:acme") == b"nonsense"


def test_none_are_let_in_twice_by_two_who_submit_at_once(store: Store) -> None:
    threads = [threading.Thread(target=publish, args=(store, flow(3), f"run-{i}")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(is_admitted(store, f"run-{i}") for i in range(8)) == 3


def test_a_flood_of_one_run_leaves_most_turns_to_a_shorter_one_and_some_to_itself(store: Store) -> None:
    publish(store, flow(100, name="flood", most=100), "flood")
    publish(store, flow(30, name="quiet", most=100), "quiet")
    claims = [store.claim(f"*|w|{number}", "token", WORKER)[1] for number in range(20)]
    served = [claim.run for claim in claims if claim]

    assert (served.count("quiet"), served.count("flood")) == (15, 5)


# --- as a user says it ------------------------------------------------------------------------------


@cf.step
def double(x: int) -> int:
    return 2 * x


@cf.step
def told_of(found: Any) -> Any:
    return found.as_dict(), found.missing


@pytest.mark.parametrize("inline", [False, True])
def test_a_gather_says_why(runtime: Any, inline: bool) -> None:
    small = double.options(quota=("small", 2), name="small")

    def body() -> Any:
        return told_of(cf.gather(small.map([1, 2, 3]))), told_of(cf.gather({"one": small.options(name="one")(1)}))

    run = cf.workflow(body).run(inline=inline)

    why = "over quota: asked for 3 items, 0 in use, quota 2"
    assert run.result() == (({}, dict.fromkeys(range(3), why)), ({"one": 2}, {}))
    assert run.status == "success"
    assert (run.steps().status[0], run.steps().error[0]) == ("cancelled", why)


@pytest.mark.parametrize("inline", [False, True])
def test_a_run_that_cannot_do_without_it_fails(runtime: Any, inline: bool) -> None:
    run = cf.workflow(lambda: double(double.options(quota=("none", 0))(1))).run(inline=inline)

    assert run.status == "failure"
    with pytest.raises(cf.RunError, match="over quota: asked for 1 items, 0 in use, quota 0"):
        run.result()


@pytest.mark.parametrize("quota", [3, ("a", -1), ("a", 1.5), ("", 1), ("a", True), ("a" * 201, 1), ["a", 1], (1, 1)])
def test_a_quota_is_a_name_and_a_number(quota: Any) -> None:
    with pytest.raises(cf.InvalidOptionError, match="quota of step 'double' must be a name and a number of items"):
        double.options(quota=quota)


def test_how_many_items_there_are_must_be_known_at_the_submit(runtime: Any) -> None:
    limited = double.options(quota=("q", 5))
    with pytest.raises(cf.WorkflowError, match="step 'double' has a quota, and how many items it has is known only"):
        cf.workflow(lambda: limited.map(cf.step(list)((1, 2)))).submit()

    @cf.workflow
    def later(n: int) -> Any:
        return limited.map([*range(n)])

    run = cf.workflow(lambda: later(double(1))).run()
    assert run.errors().error.tolist() == ["WorkflowError"]
    assert "set aside at the submit of a run" in run.errors().message[0]
