"""The longest chain of what ran in a run: what is on it, and what is not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from feeds import T0, Feed, a_map, graph, no_keys, node, pipeline, stamp
from flows import add, double
from msgspec.structs import replace

import celeryflow as cf
from celeryflow.graph.model import Edge, Event, Graph, Input, Node, Role
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot

COLUMNS = [
    "step",
    "index",
    "key",
    "attempts",
    "worker",
    "started_at",
    "finished_at",
    "duration_s",
    "queue_wait_s",
    "share",
]
MAKESPANS = [f"makespan_{n}_s" for n in (1, 2, 4, 8, 16, 32, 64)]


def path(feed: Feed) -> pd.DataFrame:
    return frames.critical_path(feed.snapshot, no_keys)


def places(found: pd.DataFrame) -> list[tuple[str, int | None]]:
    return [
        (step, None if pd.isna(index) else int(index))
        for step, index in zip(found["step"], found["index"], strict=True)
    ]


def items(feed: Feed, node: int, durations: list[float], worker: str = "w:1") -> Feed:
    """The items of a map, one after the other on one worker."""
    for item, seconds in enumerate(durations):
        feed("claimed", node, item, worker=worker).after(seconds)
        feed("success", node, item, worker=worker, durations_s=(seconds,))
    return feed


def test_it_has_the_same_columns_and_types_when_empty() -> None:
    empty, full = path(Feed(pipeline(0))), path(Feed(pipeline()).run(0))
    assert list(full.columns) == COLUMNS + MAKESPANS
    assert (len(empty), len(full)) == (0, 1)
    pd.testing.assert_series_equal(full.dtypes, empty.dtypes)
    assert str(full["started_at"].dtype) == "datetime64[ns, UTC]"
    assert {str(full[name].dtype) for name in [*MAKESPANS, "duration_s", "queue_wait_s", "share"]} == {"float64"}


def test_an_item_waits_for_the_same_item_of_the_map_before_it() -> None:
    feed = Feed(pipeline(length=3)).run(0, seconds=1.0)
    items(feed, 1, [1.0, 4.0, 2.0])
    items(feed, 2, [5.0, 1.0, 1.0])
    feed.run(3, seconds=2.0).run(4, seconds=7.0)
    found = path(feed)
    # 1 + 1 + 5 + 2 by item 0, against 1 + 4 + 1 + 2 by item 1, though the longest item of each stage together are more.
    assert places(found) == [("load", None), ("clean", 0), ("check", 0), ("total", None)]
    assert found["duration_s"].tolist() == [1.0, 1.0, 5.0, 2.0]
    assert found["share"].tolist() == pytest.approx([1 / 9, 1 / 9, 5 / 9, 2 / 9])


def test_makespans_are_the_same_in_each_row_and_end_at_the_path() -> None:
    feed = items(Feed(graph(a_map(0, "m", length=8))), 0, [1.0] * 8)
    found = path(feed)
    assert len(found) == 1
    assert found[MAKESPANS].iloc[0].tolist() == [8.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0]


def test_a_task_takes_as_long_as_all_its_attempts() -> None:
    feed = Feed(graph(node(0, "a", retries=1), node(1, "b")))
    feed("claimed", 0, worker="w:1").after(2.0)("retrying", 0, delay_s=5.0, durations_s=(2.0,)).after(6.0)
    feed("claimed", 0, attempt=2, worker="w:2").after(1.0)("success", 0, attempt=2, worker="w:2", durations_s=(1.0,))
    (row,) = path(feed).to_dict("records")
    assert (row["attempts"], row["duration_s"], row["worker"]) == (2, 3.0, "w:2")
    # The delay of 5 s is no waiting for a worker: that is 0.1 s before the first attempt and 1 s before the second.
    assert row["queue_wait_s"] == pytest.approx(1.1)
    assert (row["started_at"], row["finished_at"]) == (stamp(T0 + 0.1), stamp(T0 + 9.1))


def test_reading_a_length_is_on_the_way_to_every_item() -> None:
    feed = Feed(graph(node(0, "give"), a_map(1, "m", Input(node=0), is_planned=True))).run(0)
    feed("claimed", 1, -1, worker="w:1").after(2.0)("length", 1, count=2)
    items(feed, 1, [1.0, 3.0])
    assert places(path(feed)) == [("give", None), ("m", None), ("m", 1)]


def test_what_is_under_way_counts_until_the_latest_event() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b"))).run(0)
    feed("claimed", 1, worker="w:1").after(9.0)
    assert places(path(feed)) == [("a", None)]
    feed("progress")
    (row,) = path(feed).to_dict("records")
    assert (row["step"], row["duration_s"]) == ("b", pytest.approx(9.0))
    assert pd.isna(row["finished_at"])


def test_what_an_earlier_run_gave_is_not_on_it() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b", Input(node=0)), node(2, "c", Input(node=1))))
    feed("reused", 0).run(1)("reused", 2)
    assert places(path(feed)) == [("b", None)]


def nested(*more: Node) -> Graph:
    return graph(node(0, "first"), replace(a_map(1, "sub", Input(node=0), length=2), role=Role.EXPAND), *more)


def part(first: int, parent: int, *names: str) -> tuple[Node, ...]:
    """A chain of steps that an item added."""
    return tuple(
        node(first + i, name, *([Input(node=first + i - 1)] if i else []), depth=1, parent=parent)
        for i, name in enumerate(names)
    )


def expand(feed: Feed, parent: int, item: int, nodes: tuple[Node, ...], durations: list[float]) -> Feed:
    """An item adds steps, which run; and takes their value."""
    feed("claimed", parent, item, worker="w:1")("expanded", parent, item, part=nodes[0].index, nodes=nodes)
    for inner, seconds in zip(nodes, durations, strict=True):
        feed.run(inner.index, seconds=seconds)
    feed("claimed", parent, item, worker="w:1").after(0.1)
    return feed("success", parent, item, worker="w:1", durations_s=(0.1,))


def test_an_item_of_a_mapped_workflow_waits_for_its_own_steps() -> None:
    feed = Feed(nested(node(2, "last", Input(node=1)))).run(0)
    expand(feed, 1, 0, part(10, 1, "a", "b"), [1.0, 5.0])
    expand(feed, 1, 1, part(20, 1, "c", "d"), [4.0, 1.0])
    feed.run(2)
    found = path(feed)
    assert places(found) == [("first", None), ("a", None), ("b", None), ("sub", 0), ("last", None)]
    assert found["makespan_64_s"].iloc[0] == pytest.approx(1 + 6 + 0.1 + 1)


def test_iterations_of_a_loop_follow_each_other() -> None:
    feed = Feed(graph(node(0, "loop", role=Role.EXPAND)))
    for first in (10, 20):
        nodes = part(first, 0, f"body-{first}")
        feed("claimed", 0, worker="w:1")("expanded", 0, part=first, nodes=nodes).run(first, seconds=2.0)
    feed("claimed", 0, worker="w:1").after(0.1)("success", 0, worker="w:1", durations_s=(0.1,))
    found = path(feed)
    assert places(found) == [("body-10", None), ("body-20", None), ("loop", None)]
    assert found["makespan_64_s"].iloc[0] == pytest.approx(4.1)


def test_a_gather_waits_for_an_end_and_a_decision_lets_its_arm_begin() -> None:
    nodes = (
        node(0, "which", role=Role.DECIDE),
        node(1, "arm", Input(node=0, edge=Edge.CHOICE)),
        node(2, "all", Input(node=1, edge=Edge.ENDED), role=Role.GATHER),
    )
    feed = Feed(graph(*nodes)).run(0).run(1).run(2)
    assert places(path(feed)) == [("which", None), ("arm", None), ("all", None)]


def test_ten_thousand_steps_and_a_map_of_a_hundred_thousand_items_are_told() -> None:
    chain = graph(*(node(i, f"s{i}", *([Input(node=i - 1)] if i else [])) for i in range(10_000)))
    feed = Feed(chain)
    for i in range(10_000):
        feed.run(i, seconds=0.001)
    assert len(path(feed)) == 10_000

    snapshot = Snapshot(graph(a_map(0, "m", length=100_000)), "etl-1")
    snapshot.apply_all(
        event
        for start in range(0, 100_000, 100)
        for event in (
            Event(seq=2 * start + 1, at=T0, event="claimed", node=0, start=start, count=100, worker="w:1"),
            Event(
                seq=2 * start + 2, at=T0 + 1, event="success", node=0, start=start, count=100, durations_s=(0.01,) * 100
            ),
        )
    )
    found = frames.critical_path(snapshot, no_keys)
    assert found["makespan_8_s"].tolist() == pytest.approx([125.0])


# --- real runs ---------------------------------------------------------------------------------------------------


@cf.step
def spend(x: int) -> int:
    end = __import__("time").perf_counter() + 0.02 * x
    while __import__("time").perf_counter() < end:
        pass
    return x


@cf.workflow
def inner(x: int) -> Any:
    return spend(spend(x) if x > 1 else x)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("is_inline", [False, True])
def test_the_path_of_a_real_run_goes_through_its_slowest_items(is_inline: bool) -> None:
    def body() -> Any:
        return add(sum_of(spend.map(double.map([1, 8, 2]))), 1)

    sum_of = cf.step(sum, name="sum_of")
    run = cf.workflow(body).run(inline=is_inline, check=True)

    found = run.critical_path()
    assert found["step"].tolist()[-3:] == ["spend", "sum_of", "add"]
    assert found["key"].tolist()[-3] == "8"
    assert found["key"].isna().tolist()[-2:] == [True, True]
    total = found["duration_s"].sum()
    work = run.steps()["duration_s"].sum()
    assert total == pytest.approx(found["makespan_64_s"].iloc[0])
    assert work > 0
    assert (found["makespan_1_s"] > found["makespan_2_s"]).all()


@pytest.mark.usefixtures("runtime")
def test_the_path_of_a_real_run_goes_into_what_it_added() -> None:
    mapped = cf.workflow(lambda: inner.map([1, 4, 1]))
    found = mapped.run(check=True).critical_path()
    assert [name for name in found["step"] if "[1]/spend" in name] == ["inner[1]/spend", "inner[1]/spend-2"]

    looped = cf.workflow(lambda: cf.loop(double, 1, until=lambda x: x > 6, max_iterations=9))
    names = looped.run(check=True).critical_path()["step"].tolist()
    assert sum("double" in name for name in names) == 3
