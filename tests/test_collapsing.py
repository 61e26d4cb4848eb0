"""Large graphs: phases are one box each, and open step by step."""

from __future__ import annotations

import pytest
from showcase import chain, events, flights, spec, with_engine

from celeryflow.graph.model import Graph, Input, Node, NodeKind
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import boxes, svg


def phased(sizes: dict[str | None, int], distinct: bool = True) -> Graph:
    """A chain through phases of so many steps; those of no phase go by None."""
    nodes: list[Node] = []
    for phase, size in sizes.items():
        for i in range(size):
            at = len(nodes)
            name = f"s{at}" if distinct else f"f{i % 2}"
            inputs = (Input(node=at - 1),) if at else ()
            nodes.append(Node(index=at, name=f"s{at}", spec=spec(name), phase=phase, inputs=inputs))
    return Graph(name="large", nodes=tuple(nodes), phases=tuple(phase for phase in sizes if phase))


LARGE = phased({"extract": 400, "transform": 300, "load": 1})


def labels(drawn: boxes.Drawing) -> list[str]:
    return [box.label for box in drawn.boxes]


def test_up_to_five_hundred_steps_are_a_box_each() -> None:
    drawn = boxes.drawing(phased({"a": 250, "b": 250}))
    assert (len(drawn.boxes), drawn.phases, drawn.opened, drawn.merged) == (500, ("a", "b"), frozenset(), "")
    assert {box.opens for box in drawn.boxes} == {None}


def test_above_it_each_phase_is_a_box_that_opens() -> None:
    drawn = boxes.drawing(LARGE)
    assert labels(drawn) == ["extract (400 steps)", "transform (300 steps)", "s700"]
    assert [box.opens for box in drawn.boxes] == ["extract", "transform", None]
    assert (drawn.phases, drawn.arrows) == ((), ((0, 1), (1, 2)))
    assert drawn.merged == "701 steps drawn as 3 groups"


def test_an_opened_phase_is_drawn_step_by_step_in_its_frame() -> None:
    drawn = boxes.drawing(LARGE, opened=frozenset({"transform"}))
    assert (len(drawn.boxes), drawn.phases, drawn.opened) == (302, ("transform",), {"transform"})
    assert {box.phase for box in drawn.boxes[1:301]} == {"transform"}
    assert [box.phase for box in (drawn.boxes[0], drawn.boxes[-1])] == [None, None]
    assert labels(drawn)[:2] == ["extract (400 steps)", "s400"]


def test_a_phase_too_large_to_open_is_drawn_by_its_functions() -> None:
    graph = phased({"extract": 700, "load": 2}, distinct=False)
    drawn = boxes.drawing(graph, opened=frozenset({"extract"}))
    assert labels(drawn) == ["f0 (350 steps)", "f1 (350 steps)", "load (2 steps)"]
    assert drawn.opened == {"extract"}
    distinct = boxes.drawing(phased({"extract": 700, "load": 2}), opened=frozenset({"extract"}))
    assert (labels(distinct), distinct.opened, distinct.fits) == (
        ["extract (700 steps)", "load (2 steps)"],
        set(),
        True,
    )


def test_steps_in_no_phase_share_a_box_by_their_function() -> None:
    graph = phased({"extract": 600, None: 50}, distinct=False)
    drawn = boxes.drawing(graph)
    assert labels(drawn) == ["extract (600 steps)", "f0 (25 steps)", "f1 (25 steps)"]
    assert [box.opens for box in drawn.boxes] == ["extract", None, None]


def test_every_step_is_in_one_box_whatever_is_opened() -> None:
    for opened in (set(), {"extract"}, {"extract", "transform", "load"}, {"none of these"}):
        drawn = boxes.drawing(LARGE, opened=frozenset(opened))
        assert sorted(n for box in drawn.boxes for n in box.nodes) == list(range(701))


def test_what_is_refreshed_is_what_would_be_drawn_anew() -> None:
    snapshot = Snapshot(LARGE, "r")
    drawn = boxes.drawing(LARGE, snapshot, opened=frozenset({"transform"}))
    told = events(*((1.0, "success", i, {"worker": "w"}) for i in range(450)), (2.0, "claimed", 450, {"worker": "w"}))
    snapshot.apply_all(told)
    anew = boxes.drawing(LARGE, snapshot, opened=frozenset({"transform"}))
    assert boxes.refreshed(drawn, snapshot) == anew
    assert boxes.refreshed(drawn, snapshot, touched=set(range(451))) == anew
    assert anew.boxes[0].status is State.SUCCESS


def test_only_what_was_touched_or_runs_is_refreshed() -> None:
    snapshot = Snapshot(flights(), "r")
    snapshot.apply_all(events((0.0, "claimed", 0, {"worker": "w"})))
    drawn = boxes.drawing(snapshot.graph, snapshot)
    later = boxes.refreshed(drawn, snapshot, now=1.7e9 + 3.0, touched=set())
    assert [a is b for a, b in zip(drawn.boxes, later.boxes, strict=True)] == [False, *[True] * 5]
    assert later.boxes[0].note == "3.0 s"


def test_a_length_that_is_found_out_moves_no_box() -> None:
    nodes = (
        Node(index=0, name="give", spec=spec("give")),
        Node(index=1, name="m", spec=spec("m"), inputs=(Input(node=0),), kind=NodeKind.MAP, is_planned=True),
    )
    snapshot = Snapshot(Graph(name="w", nodes=nodes), "r")
    before = boxes.drawing(snapshot.graph, snapshot).boxes[1]
    snapshot.apply_all(events((1.0, "success", 0, {}), (2.0, "length", 1, {"count": 336})))
    after = boxes.drawing(snapshot.graph, snapshot).boxes[1]
    assert (before.label[-1], after.label[-3:], before.width) == ("?", "336", after.width)


@with_engine
@pytest.mark.parametrize("graph", [LARGE, chain(2_000, [f"f{i}" for i in range(2_000)], phases=5)])
def test_collapsed_graphs_are_laid_out(graph: Graph) -> None:
    picture = svg.draw(graph)
    assert picture.svg is not None
    assert "steps drawn as" in picture.remark
