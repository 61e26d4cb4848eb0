"""Large runs: no verb takes longer because a run is large."""

from __future__ import annotations

from itertools import pairwise

from stores import DRAINER, end_first, publish, steps, told, work_off
from wirings import LITERAL, Wiring, wire

from celeryflow.store.scripts import Store

BUDGET = 50


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


def test_three_thousand_roots_get_ready_in_pieces(store: Store) -> None:
    publish(store, steps([()] * 3000))
    assert count_pieces(store, "r", 3000) == [BUDGET] * 60


def test_ten_thousand_dependents_get_ready_in_pieces(store: Store) -> None:
    publish(store, steps([(), *[(0,)] * 10_000]))
    end_first(store, "success")
    assert count_pieces(store, "r", 10_000) == [BUDGET] * 200


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
