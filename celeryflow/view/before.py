"""A workflow before it runs: its picture, with the arguments, queue, priority and retries of each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from celeryflow.graph.mapped import Mapped
from celeryflow.graph.model import PRIORITY, Node, OnError, Role
from celeryflow.graph.refs import Each, Hole, fill, holes
from celeryflow.graph.traced import Call, Traced
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import words
from celeryflow.view.arguments import named
from celeryflow.view.boxes import Told, drawing
from celeryflow.view.brief import Word, brief
from celeryflow.view.outline import outline
from celeryflow.view.svg import Picture, picture

ARGUMENT, ARGUMENTS, NOTE, LEAST = 40, 8, 54, 16
"""Characters of an argument, arguments of a step, and characters of the second line of its box: at most, and at least
for the arguments in it."""


def draw_before(traced: Traced) -> Picture:
    """The picture of a workflow that has not run.

    A box says the arguments that are values and the options that are not the usual ones; its title and the
    outline say all of them. Pictures of runs show no argument: these stay in the picture that was asked for before.
    """
    graph, snapshot = traced.graph, Snapshot(traced.graph, "")
    told, lines = {}, {}
    for record, call in zip(snapshot.steps, traced.calls, strict=True):
        node, arguments = record.node, _arguments(record.node, call, graph.nodes)
        called = f"({', '.join(f'{name}={text}' for name, (text, _) in arguments.items())})" if arguments else ""
        given = ", ".join(f"{name}={text}" for name, (text, is_value) in arguments.items() if is_value)
        options = list(_options(node))
        unusual = [text for text, is_unusual in options if is_unusual]
        room = max(LEAST, NOTE - sum(len(text) + 3 for text in unusual))
        note = " · ".join([*([words.plain(given, room)] if given else []), *unusual])
        said = " · ".join(text for text, _ in options)
        title = words.label(record) + " " * (node.is_map and bool(called)) + called
        told[node.index] = Told(note, f"{title}: {said}" if said else title)
        lines[node.index] = "  ".join(part for part in (called, said) if part)
    return picture(graph, drawing(graph, snapshot, told=told), outline(graph, snapshot, told=lines))


def _options(node: Node) -> Iterator[tuple[str, bool]]:
    """How a step runs, in words; and whether its box is to say so: where queue, priority or retries are unusual."""
    spec = node.spec
    if node.role is Role.GATHER:
        if node.deadline_s is not None:
            yield f"goes on after {words.seconds(node.deadline_s)}", True
        return
    if node.role is Role.PICK:
        return
    yield f"queue {spec.queue}", spec.queue != "default"
    yield f"priority {spec.priority}", spec.priority != PRIORITY
    yield f"{spec.retries or 'no'} {'retry' if spec.retries == 1 else 'retries'}", spec.retries > 0
    if spec.timeout_s is not None:
        yield f"at most {words.seconds(spec.timeout_s)}", False
    if spec.max_running is not None:
        yield f"{spec.max_running} at a time", False
    if spec.cache:
        yield "cached", False
    if node.on_error is not OnError.RAISE:
        yield {OnError.SKIP: "skips errors", OnError.RETURN: "returns errors"}[node.on_error], False


def _arguments(node: Node, call: Call, nodes: Sequence[Node]) -> Mapping[str, tuple[str, bool]]:
    """Each argument by the name of its parameter: in short, and whether it is a value and no other step's result."""
    if node.role in (Role.DECIDE, Role.PICK):
        return {}

    def shown(place: Any) -> Word:
        if type(place) is Each:
            return Word(f"each of {_mapped(call.mapped[place.number], nodes)}")
        return Word(_place(place, nodes))

    found: dict[str, tuple[str, bool]] = {}
    for name, value in islice(named(call.callee.function, call.args, call.kwargs).items(), ARGUMENTS):
        is_value = type(value) is not Each and not holes(value)
        found[words.plain(name, 30)] = brief(fill(value, shown), ARGUMENT), is_value
    return found


def _mapped(mapped: Mapped, nodes: Sequence[Node]) -> str:
    if mapped.items is None:
        return _place(mapped.hole, nodes) if mapped.hole else ""
    first = [fill(item, lambda place: Word(_place(place, nodes))) for item in islice(mapped.items, 5)]
    if mapped.keys is not None:
        return brief(dict(zip(mapped.keys, first, strict=False)), ARGUMENT)
    return brief(first, ARGUMENT)


def _place(place: Hole, nodes: Sequence[Node]) -> str:
    """A step's result, or an item of it, by the step's name."""
    path = "".join(f"[{brief(key, 20)}]" for key in place.path)
    return words.plain(nodes[place.node].name, 40) + path
