"""A traced workflow: its graph, what each node calls, and what the body returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from celeryflow.graph.mapped import Mapped
from celeryflow.graph.model import Edge, Graph, Input, Node, Role, StepSpec
from celeryflow.graph.refs import Hole, fill, holes


@dataclass(frozen=True, kw_only=True)
class Callee:
    """A step as the tracer needs it: its code, how it runs, and whether the user chose its name and its priority."""

    function: Callable[..., Any]
    spec: StepSpec
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    is_named: bool = False
    has_priority: bool = False


@dataclass(frozen=True, kw_only=True)
class Call:
    """The live half of a node: its function and arguments, with Holes and Eaches in place of values to come."""

    callee: Callee
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mapped: tuple[Mapped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A traced workflow: the graph, a Call for each of its nodes, and the body's value with Holes in it.

    `arguments` are those that the body was called with, as ``(args, kwargs)``; None where there is no body to call.
    """

    graph: Graph
    calls: tuple[Call, ...]
    result: Any
    arguments: Any = None


def place(traced: Traced, first: int, step: str, is_fatal: bool, **facts: Any) -> Traced:
    """A graph as a part of another one: its nodes numbered from `first` on, named after `step`, with `facts`."""

    def moved(inputs: Sequence[Input]) -> tuple[Input, ...]:
        return tuple(structs.replace(i, node=i.node + first) for i in inputs)

    def shift(value: Any) -> Any:
        return fill(value, lambda place: place._replace(node=place.node + first) if type(place) is Hole else place)

    nodes = tuple(
        structs.replace(
            n,
            index=n.index + first,
            name=f"{step}/{n.name}",
            inputs=moved(n.inputs),
            source=None if n.source is None else n.source + first,
            is_fatal=n.is_fatal and is_fatal,
            **facts,
        )
        for n in traced.graph.nodes
    )
    calls = (
        replace(
            c,
            args=shift(c.args),
            kwargs=shift(c.kwargs),
            mapped=tuple(replace(m, items=shift(m.items), hole=shift(m.hole)) for m in c.mapped),
        )
        for c in traced.calls
    )
    graph = structs.replace(traced.graph, nodes=nodes)
    return Traced(graph=graph, calls=tuple(calls), result=shift(traced.result))


def with_fates(nodes: Sequence[Node], calls: Sequence[Call], returned: set[int]) -> tuple[Node, ...]:
    """The nodes, knowing whether their failure fails the run: it does not where only gathers take their results."""
    fatal = [True] * len(nodes)
    users: dict[int, list[bool]] = {}
    for node in reversed(nodes):
        mine = users.get(node.index)
        fatal[node.index] = mine is None or any(mine) or node.index in returned
        needed = holes(calls[node.index].args) if node.role is Role.PICK else set()
        for i in node.inputs:
            if node.role is Role.PICK and i.edge is Edge.ENDED and i.node not in needed:
                continue  # it only waits for that one
            is_needed = i.edge is not Edge.ENDED or i.node in needed
            users.setdefault(i.node, []).append(is_needed and fatal[node.index])
    return tuple(n if fatal[n.index] else structs.replace(n, is_fatal=False) for n in nodes)
