"""Runs to be shown, and what to look for in a picture."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any
from xml.etree import ElementTree

import pytest

from celeryflow.graph.model import Edge, Event, Graph, Input, Node, NodeKind, StepSpec
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.trail import CodeLine
from celeryflow.view import boxes, svg
from celeryflow.view.layout import Layout

SVG = "{http://www.w3.org/2000/svg}"
has_engine = bool(shutil.which("dot") or find_spec("wasmtime"))
with_engine = pytest.mark.skipif(not has_engine, reason="no Graphviz here")


def spec(name: str, label: str | None = None, **more: Any) -> StepSpec:
    return StepSpec(name=name, label=name if label is None else label, **more)


def flights() -> Graph:
    """Three steps, two maps item by item, and a step after them."""
    extract = [
        Node(index=i, name=name, spec=spec(name, retries=3), phase="extract")
        for i, name in enumerate(("flights", "weather", "planes"))
    ]
    whole = tuple(Input(node=i) for i in range(3))
    items = (Input(node=3, edge=Edge.ITEMS),)
    more: dict[str, Any] = {"kind": NodeKind.MAP, "phase": "transform"}
    clean = Node(index=3, name="clean", spec=spec("clean"), inputs=whole, length=336, **more)
    check = Node(index=4, name="validate", spec=spec("validate"), inputs=items, source=3, **more)
    load = Node(index=5, name="load", spec=spec("load"), inputs=(Input(node=4),), phase="load")
    return Graph(name="flights_etl", nodes=(*extract, clean, check, load), phases=("extract", "transform", "load"))


def chain(size: int, names: list[str], phases: int = 0) -> Graph:
    nodes = tuple(
        Node(
            index=i, name=f"s{i}", spec=spec(names[i % len(names)]), inputs=(Input(node=i - 1),) if i else (),
            phase=f"p{i * phases // size}" if phases else None,
        )
        for i in range(size)
    )  # fmt: skip
    return Graph(name="long", nodes=nodes, phases=tuple(f"p{i}" for i in range(phases)))


def one_step() -> Graph:
    return Graph(name="one", nodes=(Node(index=0, name="a", spec=spec("a")),))


def events(*told: tuple[float, str, int, dict[str, Any]]) -> list[Event]:
    begun = [(0.0, "submitted", -1, {}), (0.0, "started", -1, {"status": "running"})]
    return [
        Event(seq=i + 1, at=1.7e9 + at, event=event, node=node, **more)
        for i, (at, event, node, more) in enumerate([*begun, *told])
    ]


def running() -> Snapshot:
    """Half way: a step retries, a map has failures."""
    snapshot = Snapshot(flights(), "run-7f3a2c")
    failed = {"kind": "exception", "error": "ValueError: 2460 is no time", "worker": "w:1"}
    snapshot.apply_all(
        events(
            (0.0, "claimed", 0, {"worker": "w:1"}),
            (1.2, "success", 0, {"durations_s": (1.2,)}),
            (1.2, "claimed", 1, {"worker": "w:1"}),
            (1.6, "success", 1, {"durations_s": (0.4,)}),
            (1.6, "claimed", 2, {"worker": "w:2", "attempt": 2}),
            (2.0, "retrying", 2, {"attempt": 2, "kind": "exception", "error": "OSError: 503", "delay_s": 9.0}),
            (2.0, "claimed", 3, {"start": 0, "count": 220, "worker": "w:1"}),
            (3.0, "success", 3, {"start": 0, "count": 212, "durations_s": (1 / 212,) * 212}),
            (3.0, "claimed", 4, {"start": 0, "count": 200, "worker": "w:2"}),
            (4.0, "success", 4, {"start": 0, "count": 41}),
            (4.1, "failure", 4, {"start": 41, **failed}),
            (5.8, "success", 4, {"start": 42, "count": 144}),
        )
    )
    return snapshot


def failed() -> Snapshot:
    """Over: a map failed, and the step after it was skipped."""
    snapshot = running()
    more: list[tuple[str, int, dict[str, Any]]] = [
        ("success", 2, {"attempt": 3, "durations_s": (0.2,)}),
        ("success", 3, {"start": 212, "count": 124}),
        ("settled", 3, {"status": "success"}),
        ("success", 4, {"start": 186, "count": 150}),
        ("settled", 4, {"status": "failure"}),
        ("skipped", 5, {"kind": "upstream", "cause": 4}),
        ("ended", -1, {"status": "failure"}),
    ]
    for event, node, fields in more:
        seq, at = snapshot.last_seq + 1, (snapshot.last_at or 0.0) + 0.1
        snapshot.apply(Event(seq=seq, at=at, event=event, node=node, **fields))
    return snapshot


def named(name: str) -> Snapshot:
    """A failed run that says `name` everywhere where a user can say anything."""
    kind = NodeKind.MAP
    nodes = (
        Node(index=0, name="a", spec=spec("a", name), phase=name),
        Node(index=1, name="b", spec=spec("b", name), phase=name, inputs=(Input(node=0),), kind=kind, length=2),
        Node(index=2, name=name, spec=spec(name, name)),
    )
    snapshot = Snapshot(Graph(name=name, nodes=nodes, phases=(name,)), name)
    snapshot.apply_all(
        events(
            (0.0, "claimed", 0, {"worker": name}),
            (1.0, "lost", 0, {"error": name, "worker": name}),
            (2.0, "failure", 2, {"kind": "exception", "error": name, "worker": name}),
            (2.0, "ended", -1, {"status": "failure", "error": name}),
        )
    )
    snapshot.trail = (CodeLine(name, name, name),)
    snapshot.unserved = {name: [name]}
    return snapshot


def placed(drawn: boxes.Drawing) -> Layout:
    """A layout without an engine: everything in a row."""
    at = {i: (100.0 * i, 50.0) for i in range(len(drawn.boxes))}
    curve: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0))
    curves = dict.fromkeys(range(len(drawn.arrows)), curve)
    frames_ = dict.fromkeys(range(len(drawn.phases)), (0.0, 0.0, 90.0, 90.0))
    return Layout("none", 1000.0, 100.0, at, frames_, curves)


def picture_of(snapshot: Snapshot) -> ElementTree.Element:
    drawn = boxes.drawing(snapshot.graph, snapshot)
    return ElementTree.fromstring(svg.render(drawn, placed(drawn)))


def by_id(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {element.attrib["id"]: element for element in root.iter() if "id" in element.attrib}
