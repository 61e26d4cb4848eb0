"""What a picture shows of control flow: decisions, steps that add others, and waiting for an end."""

from __future__ import annotations

import re
from typing import Any

from showcase import SVG, by_id, events, picture_of, spec

from celeryflow.graph.model import Edge, Graph, Input, Node, NodeKind, Role
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import boxes, dot, outline, svg


def routed() -> Graph:
    """A decision between a step and a workflow that is traced later; a gather of both, beside the value chosen."""
    choices = [(Input(node=0, edge=Edge.CHOICE, choice=i), Input(node=1)) for i in range(2)]
    ended = tuple(Input(node=i, edge=Edge.ENDED) for i in (2, 3))
    nodes = (
        Node(index=0, name="branch", spec=spec("branch"), role=Role.DECIDE),
        Node(index=1, name="read", spec=spec("read")),
        Node(index=2, name="small", spec=spec("small"), inputs=choices[0]),
        Node(index=3, name="large", spec=spec("large"), inputs=choices[1], role=Role.EXPAND),
        Node(index=4, name="chosen", spec=spec("chosen"), inputs=(Input(node=0), *ended), role=Role.PICK),
        Node(index=5, name="gather", spec=spec("gather"), inputs=ended, role=Role.GATHER),
    )
    return Graph(name="routed", nodes=nodes)


def expanded() -> Snapshot:
    """`large` added two steps, one of which added three more."""

    def part(first: int, size: int, parent: int) -> tuple[Node, ...]:
        more: dict[str, Any] = {"depth": 1 if parent == 3 else 2, "parent": parent}
        return tuple(Node(index=i, name=f"s{i}", spec=spec("s"), **more) for i in range(first, first + size))

    snapshot = Snapshot(routed(), "r")
    snapshot.apply_all(
        events(
            (1.0, "claimed", 3, {"worker": "w"}),
            (2.0, "expanded", 3, {"part": 6, "nodes": part(6, 2, 3), "worker": "w"}),
            (3.0, "claimed", 7, {"worker": "w"}),
            (3.0, "expanded", 7, {"part": 9, "nodes": part(9, 3, 7), "worker": "w"}),
        )
    )
    return snapshot


def test_what_decides_and_what_adds_steps_has_a_sign_in_every_picture() -> None:
    graph = routed()
    labels = [t.text for t in picture_of(Snapshot(graph, "r")).iter(f"{SVG}text") if t.get("class") == "label"]
    assert labels == ["◇ branch", "read", "small", "⊞ large", "chosen", "gather"]
    for shown in (dot.source(graph), outline.outline(graph)):
        assert "○ ◇ branch" in shown and "○ ⊞ large" in shown
        assert "○ gather" in shown and "○ chosen" in shown
    many = Node(index=0, name="m", spec=spec("m"), role=Role.EXPAND, kind=NodeKind.MAP, length=3)
    assert boxes.drawing(Graph(name="w", nodes=(many,))).boxes[0].label == "⊞ m × 3"  # noqa: RUF001


def test_arrows_that_wait_for_an_end_or_a_decision_are_dashed() -> None:
    drawn = boxes.drawing(routed())
    loose = {drawn.arrows[at] for at in drawn.loose}
    assert loose == {(0, 2), (0, 3), (2, 4), (3, 4), (2, 5), (3, 5)}
    assert set(drawn.arrows) - loose == {(1, 2), (1, 3), (0, 4)}
    elements = by_id(picture_of(Snapshot(routed(), "r")))
    assert {at for at in range(9) if "loose" in elements[f"e{at}"].attrib["class"].split()} == set(drawn.loose)
    assert set(map(int, re.findall(r"id=e(\d+), style=dashed", dot.source(routed())))) == set(drawn.loose)
    assert ".edge.loose { stroke-dasharray" in svg.style()


def test_an_arrow_on_which_a_value_goes_too_is_not_dashed() -> None:
    both = (Input(node=0, edge=Edge.ENDED), Input(node=0))
    for inputs in (both, both[::-1]):
        nodes = (Node(index=0, name="a", spec=spec("a")), Node(index=1, name="b", spec=spec("b"), inputs=inputs))
        assert boxes.drawing(Graph(name="w", nodes=nodes)).loose == frozenset()


def test_a_step_says_how_many_steps_it_has_added_and_keeps_its_place() -> None:
    before, after = boxes.drawing(routed()), boxes.drawing(routed(), expanded())
    assert [box.note for box in after.boxes] == ["", "", "", "2.0 s · 5 inside", "", ""]
    assert dot.bare(before) == dot.bare(after)
    assert len(after.boxes) == 6
    assert "⊞ large  2.0 s · 5 inside" in outline.outline(routed(), expanded())
    wide = after.boxes[3]
    assert wide.width > boxes.LABEL_X + boxes.text_width("1 min 15 s · 999 inside", boxes.NOTE_SIZE)
