"""Random workflows, wired by the tracer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import strategies as st

from celeryflow.graph.model import Graph, OnError, StepSpec
from celeryflow.graph.refs import unmapped
from celeryflow.graph.trace import Tracer
from celeryflow.graph.traced import Callee


def work() -> None:
    """Every step's code."""


def callee(
    queue: str, priority: int, losses: int, max_running: int | None = None, concurrency: int | None = None
) -> Callee:
    spec = StepSpec(
        name="work",
        label="work",
        queue=queue,
        priority=priority,
        max_worker_losses=losses,
        max_running=max_running,
        concurrency=concurrency,
    )
    return Callee(function=work, spec=spec, has_priority=True)


Wiring = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""The earlier nodes that each maps over, and those that it needs whole. One that maps over nothing is a step."""

LITERAL, GATHER, BRANCH = -1, -2, -3
"""In place of a node to map over: items that are known, and what is no step or map at all."""

SHAPES = (
    *("chain", "chain", "chain", "step", "literal", "value", "value", "map", "map", "map", "zip", "zip", "mixed"),
    *("gather", "branch"),
)

HARD: list[Wiring] = [
    # chains that may be claimed as one
    [((), ()), ((), (0,)), ((), (1,)), ((), (2,))],
    [((), ()), ((), ()), ((), (0, 1)), ((), (2,))],
    # a source is skipped when its length has been passed on
    [((), ()), ((), ()), ((), (1,)), ((0,), ()), ((3,), (2,)), ((4, 0), ())],
    # one of two zipped maps is skipped
    [((), ()), ((), ()), ((0,), ()), ((2,), ()), ((2,), (1,)), ((3, 4), ())],
    # many take the items of a map whose length comes late
    [((), ()), ((0,), ()), ((1,), ()), ((1,), (1,)), ((1,), ()), ((2, 4), ()), ((1,), (0,))],
    # a map over a map that never runs
    [((), ()), ((LITERAL,), (0,)), ((1,), ()), ((2,), ()), ((), (3,))],
]

ALIKE = (("fast",), (5,), (2, 1, 0))
VARIED = (("fast", "fast", "slow"), (5, 5, 9), (2, 1, 0))
CAPPED = (("fast", "fast", "slow"), (5, 5, 9), (2, 1, 0), (None, 1, 2), (None, 3))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    """A workflow of up to eight steps and maps as the tracer wires them, and the code of each."""
    wiring = draw(st.one_of(wirings(), wirings(), st.sampled_from(HARD)))
    length, options = draw(st.sampled_from([3, 6, 2, 1, 0])), draw(st.sampled_from([ALIKE, VARIED, CAPPED]))
    specs = [[draw(st.sampled_from(values)) for values in options] for _ in wiring]
    graph = wire(wiring, length, specs, draw(st.sampled_from([False, False, False, True])))
    return graph, [draw(st.sampled_from(["aaaaaaaa", "bbbbbbbb"])) for _ in graph.nodes]


def wire(wiring: Wiring, length: int, specs: Sequence[Sequence[Any]], fail_fast: bool = False) -> Graph:
    """The graph of a wiring; `specs` are queues, priorities, losses and so on."""
    tracer, refs = Tracer("wired"), list[Any]()
    for (mapped, wholes), spec in zip(wiring, specs, strict=True):
        if mapped[:1] == (GATHER,):
            refs.append(tracer.gather(callee(*spec), [refs[node] for node in wholes], 0, None))
            continue
        if mapped[:1] == (BRANCH,):
            refs.append(branch(tracer, callee(*spec), refs[wholes[0]], mapped[1:]))
            continue
        items = [range(length) if node == LITERAL else refs[node] for node in mapped]
        others = [unmapped(refs[node]) if mapped else refs[node] for node in wholes]
        call = partial(tracer.map, on_error=OnError.RAISE) if mapped else tracer.call
        refs.append(call(callee(*spec), (*items, *others), {}))
    return tracer.finish(None, fail_fast=fail_fast).graph


def branch(tracer: Tracer, step: Callee, on: Any, arms: Sequence[int]) -> Any:
    """A decision, its arms, each with so many branches in it as `arms` says, and the one that is picked."""
    which, options = tracer.decide(step, on), []
    for number, depth in enumerate(arms):
        with tracer.gated(which, number):
            options.append(branch(tracer, step, on, (depth - 1, 0)) if depth else tracer.call(step, (on,), {}))
    return tracer.pick(step, which, options)


def is_map(node: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    return bool(node[0]) and node[0][0] >= LITERAL


@st.composite
def wirings(draw: st.DrawFn) -> Wiring:
    wiring: Wiring = []
    for node in range(draw(st.integers(1, 8))):
        wholes = draw(st.lists(st.sampled_from(range(node)), max_size=2, unique=True)) if node else []
        wiring.append(draw_node(draw, wiring, tuple(wholes)))
    return wiring


def draw_node(draw: st.DrawFn, wiring: Wiring, wholes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One more node: a step, or a map over literal items, a value, a map or several."""
    shape, nodes = draw(st.sampled_from(SHAPES)), range(len(wiring))
    if shape == "gather" and wiring:
        return (GATHER,), tuple(draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3, unique=True)))
    if shape == "branch" and wiring:
        return (BRANCH, *draw(st.sampled_from([(0, 0), (0,), (0, 1), (1, 0)]))), tuple(nodes[-1:])
    maps, values = ([node for node in nodes if is_map(wiring[node]) is wanted] for wanted in (True, False))
    if shape in ("step", "chain", "gather", "branch") or (shape == "value" and not values):
        return (), wholes if shape == "step" else tuple(nodes[-1:])
    choices = {"literal": [], "value": values, "mixed": [LITERAL, *nodes]}.get(shape, maps) or [LITERAL]
    most = {"zip": 2, "mixed": 3}.get(shape, 1)
    least = min(len(choices), 2) if shape == "zip" else 1
    mapped = draw(st.lists(st.sampled_from(choices), min_size=least, max_size=most, unique=True))
    return tuple(mapped), wholes[:1]
