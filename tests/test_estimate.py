"""How long a run may still take, told from what has ended."""

from __future__ import annotations

import pytest
from feeds import Feed, a_map, graph, node, pipeline
from msgspec.structs import replace

from celeryflow.graph.model import Edge, Graph, Input, Node, Role
from celeryflow.runtime.snapshot.estimate import remaining_s


def left(feed: Feed) -> float | None:
    return remaining_s(feed.snapshot, feed.now)


def test_nothing_can_be_told_before_anything_has_ended() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b", Input(node=0))))
    assert left(feed) is None
    feed("claimed", 0, worker="w:1").after(5.0)
    assert left(feed) is None


def test_items_left_are_shared_by_the_workers_that_are_busy() -> None:
    feed = Feed(graph(a_map(0, "m", length=10)))
    feed("claimed", 0, 0, 2, worker="w:1").after(4.0)("success", 0, 0, 2, worker="w:1", durations_s=(2.0, 2.0))
    feed("claimed", 0, 2, worker="w:1")
    assert left(feed) == pytest.approx(16.0)
    feed("claimed", 0, 3, worker="w:2")
    assert left(feed) == pytest.approx(8.0)


def test_what_runs_has_been_running() -> None:
    feed = Feed(graph(a_map(0, "m", length=2)))
    feed("claimed", 0, 0, worker="w:1").after(3.0)("success", 0, 0, worker="w:1", durations_s=(3.0,))
    feed("claimed", 0, 1, worker="w:1").after(1.0)
    assert left(feed) == pytest.approx(2.0)
    feed.after(9.0)
    assert left(feed) == 0.0


def test_no_number_of_workers_makes_a_chain_shorter() -> None:
    chain = graph(*(node(i, f"s{i}", *([Input(node=i - 1)] if i else [])) for i in range(4)), node(4, "apart"))
    feed = Feed(chain).run(0, seconds=2.0)
    feed("claimed", 1, worker="w:1")("claimed", 4, worker="w:2")
    assert left(feed) == pytest.approx(6.0)


def test_stages_of_a_map_overlap() -> None:
    feed = Feed(pipeline(length=4)).run(0).run(4)
    for worker in (1, 2):
        feed("claimed", 1, worker - 1, worker=f"w:{worker}")
    feed.after(1.0)("success", 1, 0, durations_s=(1.0,))("success", 1, 1, durations_s=(1.0,))
    for worker in (1, 2):
        feed("claimed", 1, worker + 1, worker=f"w:{worker}")
    # Two of the first stage, four of the second and the sum, one second each.
    assert left(feed) == pytest.approx(7.0 / 2)


def test_a_step_that_never_ran_takes_what_its_function_took_elsewhere() -> None:
    spec = node(0, "fit").spec
    nodes = (node(0, "fit"), node(1, "tiny"), replace(node(2, "fit-2", Input(node=0)), spec=spec), node(3, "other"))
    feed = Feed(graph(*nodes)).run(0, seconds=8.0).run(1, seconds=2.0)
    feed("claimed", 3, worker="w:1")
    assert left(feed) == pytest.approx(8.0 + (8.0 + 2.0) / 2)


def test_a_map_of_unknown_length_or_cost_keeps_it_open() -> None:
    feed = Feed(pipeline(length=None)).run(4)("claimed", 0, worker="w:1")
    assert left(feed) is None
    feed.after(1.0)("success", 0)("claimed", 1, -1, worker="w:1")("length", 1, count=6)("claimed", 1, worker="w:1")
    assert left(feed) is None
    feed.after(1.0)("success", 1, durations_s=(1.0,))("claimed", 1, 1, worker="w:1")
    assert left(feed) == pytest.approx(5 + 6 + 1)


def test_results_of_an_earlier_run_tell_no_time() -> None:
    feed = Feed(graph(a_map(0, "m", length=4)))
    feed("reused", 0, 0, 2)("claimed", 0, 2, worker="w:1")
    assert left(feed) is None
    feed.after(1.0)("success", 0, 2, durations_s=(1.0,))("claimed", 0, 3, worker="w:1")
    assert left(feed) == pytest.approx(1.0)


def test_what_an_item_added_is_what_it_takes() -> None:
    nested = Graph(
        name="n", nodes=(replace(a_map(0, "sub", length=3), role=Role.EXPAND), node(1, "end", Input(node=0)))
    )
    feed = Feed(nested)
    for item in (0, 1):
        part = inner(item, first=10 * item + 10)
        feed("claimed", 0, item, worker="w:1")("expanded", 0, item, part=part[0].index, nodes=part)
        feed.run(part[0].index, seconds=2.0)
        if item == 0:
            feed.run(part[1].index, seconds=2.0)
            feed("claimed", 0, item, worker="w:1")("success", 0, item, worker="w:1", durations_s=(0.0,))
    feed("claimed", part[1].index, worker="w:1")
    # One step of item 1, all of item 2 (three steps of two seconds have run for one item), and the end.
    assert left(feed) == pytest.approx(2.0 + 6.0 + 2.0)


def inner(item: int, first: int) -> tuple[Node, Node]:
    """A chain of two, as an item of node 0 adds it."""
    one, two = (node(first + i, f"sub[{item}]/{name}", depth=1, parent=0) for i, name in enumerate(("a", "b")))
    return one, replace(two, inputs=(Input(node=first),), name=f"sub[{item}]/b")


def test_a_gather_takes_no_time_of_its_own() -> None:
    nodes = node(0, "a"), node(1, "b"), node(2, "gather", Input(node=1, edge=Edge.ENDED), role=Role.GATHER)
    feed = Feed(graph(*nodes)).run(0, seconds=4.0)("claimed", 1, worker="w:1")
    assert left(feed) == pytest.approx(4.0)


def test_what_is_tried_again_begins_after_its_delay_and_what_needs_it_after_that() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b", retries=1), node(2, "c", Input(node=1)), node(3, "d")))
    feed.run(0, seconds=2.0)("claimed", 3, worker="w:2")
    feed("claimed", 1, worker="w:1")("retrying", 1, worker="w:1", delay_s=120.0, tries=1)
    assert left(feed) == pytest.approx(120.0 + 2.0 + 2.0)
    feed.after(100.0)("success", 3, worker="w:2", durations_s=(100.0,))
    assert left(feed) == pytest.approx(20.0 + 2 * 51.0), "nobody works, and all is known nevertheless"
    feed.after(21.0)
    assert left(feed) is None, "nobody has taken it"
    feed("claimed", 1, worker="w:1").after(1.0)
    assert left(feed) == pytest.approx(50.0 + 51.0)


def test_what_needs_a_whole_map_waits_for_the_item_that_is_tried_again() -> None:
    feed = Feed(graph(a_map(0, "m", length=4, retries=1), node(1, "sum", Input(node=0))))
    feed("claimed", 0, 0, worker="w:1")("retrying", 0, 0, worker="w:1", delay_s=60.0, tries=1, durations_s=(0.0,))
    for item in (1, 2):
        feed("claimed", 0, item, worker="w:1").after(1.0)("success", 0, item, worker="w:1", durations_s=(1.0,))
    feed("claimed", 0, 3, worker="w:1")
    assert left(feed) == pytest.approx(58.0 + 1.0 + 1.0)
    feed.after(59.0)("success", 0, 3, worker="w:1", durations_s=(1.0,))("claimed", 0, 0, worker="w:1")
    assert left(feed) == pytest.approx(1.0 + 1.0)


def test_nothing_is_told_while_nobody_works_and_once_it_has_ended() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b"))).run(0)
    assert left(feed) is None
    feed.run(1)("ended", status="success")
    assert left(feed) is None
