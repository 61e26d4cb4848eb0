"""Small workflows, and events of their runs as the store would write them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from celeryflow.graph.model import Edge, Event, Graph, Input, Node, NodeKind, StepSpec
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot

T0 = 1_700_000_000.0
S = State


def node(index: int, name: str, *inputs: Input, phase: str | None = None, **more: Any) -> Node:
    spec = StepSpec(name=name, label=name, retries=more.pop("retries", 0))
    return Node(index=index, name=name, spec=spec, phase=phase, inputs=inputs, **more)


def a_map(index: int, name: str, *inputs: Input, length: int | None = None, **more: Any) -> Node:
    return node(index, name, *inputs, kind=NodeKind.MAP, length=length, **more)


def graph(*nodes: Node) -> Graph:
    phases = tuple(dict.fromkeys(n.phase for n in nodes if n.phase))
    return Graph(name="etl", nodes=nodes, phases=phases)


def pipeline(length: int | None = 6) -> Graph:
    """A step, a map, a map over that map item by item, and a step that needs all of it."""
    return graph(
        node(0, "load", phase="extract"),
        a_map(1, "clean", Input(node=0), length=length, phase="transform", is_planned=length is None, retries=3),
        a_map(2, "check", Input(node=1, edge=Edge.ITEMS), source=1, phase="transform"),
        node(3, "total", Input(node=2), phase="sum"),
        node(4, "apart"),
    )


class Feed:
    """Writes events as the store does, and applies them to a snapshot."""

    def __init__(self, of: Graph) -> None:
        self.snapshot, self.now = Snapshot(of, "etl-1"), T0
        self.events: list[Event] = []
        self("submitted").after(0.1)("started", status="running")

    def __call__(self, event: str, node: int = -1, start: int = 0, count: int = 1, **more: Any) -> Feed:
        made = Event(seq=len(self.events) + 1, at=self.now, event=event, node=node, start=start, count=count, **more)
        self.events.append(made)
        self.snapshot.apply(made)
        return self

    def after(self, seconds: float) -> Feed:
        self.now += seconds
        return self

    def run(self, node: int, seconds: float = 1.0, worker: str = "w:1") -> Feed:
        """Claim a plain step, and its success after `seconds`."""
        self("claimed", node, worker=worker).after(seconds)
        return self("success", node, worker=worker, durations_s=(seconds,))

    def record(self, name: str) -> Any:
        return self.snapshot.record(name)


def stamp(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(round(seconds * 1e6) * 1000, tz="UTC")


def no_keys(node: int) -> None:
    return None


def timeline(feed: Feed) -> pd.DataFrame:
    return frames.timeline(feed.snapshot, no_keys)
