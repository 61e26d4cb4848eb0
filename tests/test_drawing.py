"""What a picture shows of a workflow and its run."""

from __future__ import annotations

import pytest
from showcase import SVG, by_id, chain, events, failed, flights, picture_of, running, spec

from celeryflow.graph.model import Graph, Input, Node, NodeKind
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import boxes, dot, outline, svg, words


def test_a_box_says_its_state_by_class_sign_and_words() -> None:
    elements = by_id(picture_of(running()))
    assert elements["n0"].attrib["class"] == "node success"
    said = {name: [t.text for t in elements[name].iter(f"{SVG}text")] for name in ("n0", "n2", "n3", "n4", "n5")}
    assert said["n0"] == ["✓", "flights", "1.2 s"]
    assert said["n2"] == ["↻", "planes", "retry 2 of 3"]
    assert said["n3"] == ["▸", "clean × 336", "212 / 336"]  # noqa: RUF001
    assert said["n4"] == ["▸", "validate × 336", "185 / 336 · 1 ✕"]  # noqa: RUF001
    assert said["n5"] == ["○", "load", None]


def test_a_bar_is_as_long_as_the_share_that_succeeded() -> None:
    box = next(b for b in boxes.drawing(flights(), running()).boxes if b.id == "n3")
    bars = [e for e in by_id(picture_of(running()))["n3"].iter(f"{SVG}rect") if e.attrib["class"] == "bar"]
    room = box.width - 8
    assert float(bars[0].attrib["width"]) == pytest.approx(room * 212 / 336, abs=0.1)


def test_one_failure_in_a_thousand_can_be_seen() -> None:
    bad = [e for e in by_id(picture_of(running()))["n4"].iter(f"{SVG}rect") if e.attrib["class"] == "bar bad"]
    assert float(bad[0].attrib["width"]) >= 3.0


def test_arrows_show_where_values_flow() -> None:
    elements = by_id(picture_of(running()))
    assert elements["e0"].attrib["class"] == "edge flow"  # flights -> clean
    assert elements["e2"].attrib["class"] == "edge"  # planes, which retries
    assert all(e.attrib["class"] == "edge" for i, e in by_id(picture_of(failed())).items() if i[0] == "e")


def test_a_run_does_not_move_its_picture() -> None:
    drawings = [boxes.drawing(flights(), s) for s in (None, running(), failed())]
    assert len({dot.bare(drawn) for drawn in drawings}) == 1
    short = Graph(name="w", nodes=(Node(index=0, name="m", spec=spec("m"), kind=NodeKind.MAP, length=10_000),))
    snapshot = Snapshot(short, "r")
    empty = boxes.drawing(short).boxes[0].width
    snapshot.apply_all(events((1.0, "failure", 0, {"count": 9999, "kind": "exception", "worker": "w"})))
    (box,) = boxes.drawing(short, snapshot).boxes
    assert (box.note, box.width) == ("0 / 10,000 · 9,999 ✕", empty)
    assert box.width > boxes.LABEL_X + boxes.text_width(box.note, boxes.NOTE_SIZE)


def test_every_state_has_a_sign_and_a_style_in_light_and_dark() -> None:
    light, dark = svg.style().split("@media")
    for state in State:
        assert words.GLYPHS[state]
        if state is not State.PENDING:
            assert f".{state} .box" in light
            assert f".{state} .box" in dark


def tangle(size: int) -> Graph:
    """Each step needs all before it: few boxes, but over a minute of layout."""
    nodes = (
        Node(index=i, name=f"s{i}", spec=spec(f"s{i}"), inputs=tuple(Input(node=j) for j in range(i)))
        for i in range(size)
    )
    return Graph(name="tangle", nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("graph", "drawn_boxes", "says"),
    [
        (chain(300, ["step"]), 300, ""),
        (chain(2000, ["load", "clean"]), 2, "2,000 steps drawn as 2 groups"),
        (chain(2000, [f"f{i}" for i in range(2000)], phases=5), 5, "2,000 steps drawn as 5 groups"),
    ],
)
def test_many_steps_are_merged_until_they_can_be_drawn(graph: Graph, drawn_boxes: int, says: str) -> None:
    drawn = boxes.drawing(graph)
    assert (len(drawn.boxes), drawn.merged, drawn.fits) == (drawn_boxes, says, True)
    assert sorted(n for box in drawn.boxes for n in box.nodes) == list(range(len(graph.nodes)))
    assert all(tail != head for tail, head in drawn.arrows)


@pytest.mark.parametrize("graph", [chain(10_000, [f"f{i}" for i in range(10_000)]), tangle(60)])
def test_what_cannot_be_laid_out_in_time_is_told_in_words(graph: Graph) -> None:
    picture = svg.draw(graph)
    assert (picture.svg, picture.engine) == (None, "text")
    assert "too many" in picture.remark
    assert len(picture.text.splitlines()) <= outline.MAX_LINES + 1


def test_merged_boxes_sum_up_their_steps() -> None:
    graph = chain(1000, ["load"])
    snapshot = Snapshot(graph, "r")
    snapshot.apply_all(events(*((1.0, "success", i, {"worker": "w"}) for i in range(400))))
    (box,) = boxes.drawing(graph, snapshot).boxes
    assert (box.label, box.note, box.status) == ("load (1,000 steps)", "400 / 1,000", State.RUNNING)
