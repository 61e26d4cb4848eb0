"""Python calls to a Graph: the body of a workflow runs once, and each call of a step becomes a node."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from celeryflow.errors import (
    ArgumentError,
    DuplicateNameError,
    EmptyWorkflowError,
    ForeignRefError,
    LengthMismatchError,
    TracingWarning,
    WorkflowError,
)
from celeryflow.graph.model import Edge, Graph, Input, Node, NodeKind, OnError, StepSpec
from celeryflow.graph.refs import Each, Hole, Ref, Unmapped, fill

SLOW_TRACE_S = 1.0

_current: ContextVar[Tracer | None] = ContextVar("celeryflow_tracer", default=None)


@dataclass(frozen=True, kw_only=True)
class Callee:
    """A step as the tracer needs it: its code, how it runs, and whether its name was chosen by the user."""

    function: Callable[..., Any]
    spec: StepSpec
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    is_named: bool = False


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """One mapped argument: literal `items` (which may hold Holes), or an input node of a map or of a value."""

    name: str
    items: Sequence[Any] | None = None
    keys: tuple[Any, ...] | None = None
    hole: Hole | None = None
    is_map: bool = False

    @property
    def length(self) -> int | None:
        """Number of items, where they are known now."""
        return None if self.items is None else len(self.items)


@dataclass(frozen=True, kw_only=True)
class Call:
    """The live half of a node: its function and arguments, with Holes and Eaches in place of values to come."""

    callee: Callee
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mapped: tuple[Mapped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A traced workflow: the graph, a Call for each of its nodes, and the body's value with Holes in it."""

    graph: Graph
    calls: tuple[Call, ...]
    result: Any


@dataclass
class Tracer:
    """Collects the nodes of one workflow while its body runs."""

    workflow: str
    nodes: list[Node] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    phases: dict[str, None] = field(default_factory=dict)
    phase: str | None = None
    _names: dict[str, Callable[..., Any] | None] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def call(
        self,
        callee: Callee,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        after: Sequence[Ref] = (),
    ) -> Ref:
        """Add a node for one call."""
        inputs: dict[Input, None] = {}
        call = Call(callee=callee, args=self._plant(args, inputs), kwargs=self._plant(kwargs, inputs))
        self._plant(list(after), inputs)
        return self._add(call, inputs, name)

    def map(
        self,
        callee: Callee,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_error: OnError,
        name: str | None = None,
        parameters: Sequence[str] = (),
        after: Sequence[Ref] = (),
    ) -> Ref:
        """Add a node that calls its step for each item of the mapped arguments."""
        inputs: dict[Input, None] = {}
        mapped: list[Mapped] = []
        names = [parameters[i] if i < len(parameters) else f"argument {i + 1}" for i in range(len(args))]
        positional = tuple(self._sort(n, value, mapped, inputs) for n, value in zip(names, args, strict=True))
        keyword = {key: self._sort(key, value, mapped, inputs) for key, value in kwargs.items()}
        label = callee.spec.label
        if not mapped:
            raise WorkflowError(
                f"{label}.map() got nothing to map over: pass a list, tuple, range, array, dict or Ref."
            )
        call = Call(callee=callee, args=positional, kwargs=keyword, mapped=tuple(mapped))
        shape = self._shape(label, mapped)
        if shape["is_planned"]:
            open_ = [m.hole.node for m in mapped if m.is_map and m.hole and self.nodes[m.hole.node].length is None]
            inputs.update({Input(node=node, edge=Edge.LENGTH): None for node in open_})
        self._plant(list(after), inputs)
        return self._add(call, inputs, name, kind=NodeKind.MAP, on_error=on_error, **shape)

    def finish(self, result: Any, fail_fast: bool = False, timeout_s: float | None = None) -> Traced:
        """The traced workflow."""
        planted = self._plant(result, {})
        if not self.nodes:
            raise EmptyWorkflowError(
                f"workflow {self.workflow!r} calls no step. Call at least one @cf.step in its body."
            )
        graph = Graph(
            name=self.workflow,
            nodes=tuple(self.nodes),
            phases=tuple(self.phases),
            fail_fast=fail_fast,
            timeout_s=timeout_s,
        )
        return Traced(graph=graph, calls=tuple(self.calls), result=planted)

    def _add(self, call: Call, inputs: dict[Input, None], name: str | None, **shape: Any) -> Ref:
        spec = call.callee.spec
        index = len(self.nodes)
        unique = self._name(call.callee, name)
        self.nodes.append(Node(index=index, name=unique, spec=spec, phase=self.phase, inputs=tuple(inputs), **shape))
        self.calls.append(call)
        return Ref(self, index, unique, 1 if shape else spec.outputs)

    def _name(self, callee: Callee, chosen: str | None) -> str:
        base = chosen or callee.spec.name
        is_same = not chosen and self._names.get(base) is callee.function
        if base in self._names and not is_same and (chosen or callee.is_named or self._names[base] is None):
            raise DuplicateNameError(
                f"workflow {self.workflow!r} has two steps named {base!r}. Give one of them another name with "
                ".options(name=…), or leave the names out."
            )
        name, number = base, self._uses.get(base, 1)
        while name in self._names:
            number += 1
            name = f"{base}-{number}"
        self._uses[base] = number
        self._names[name] = None if chosen else callee.function
        return name

    def _plant(self, value: Any, inputs: dict[Input, None]) -> Any:
        """`value` with Holes for its Refs, which are added to `inputs`."""

        def put(ref: Any) -> Any:
            self._check(ref)
            inputs[Input(node=ref._node)] = None
            return Hole(ref._node, ref._path)

        return fill(value, put)

    def _check(self, ref: Ref) -> None:
        if ref._tracer is not self:
            raise ForeignRefError(
                f"{ref!r} belongs to another workflow, {ref._tracer.workflow!r}. "
                f"Call its step in the body of {self.workflow!r}, or pass a value: run.value({ref._step!r})."
            )

    def _sort(self, name: str, value: Any, mapped: list[Mapped], inputs: dict[Input, None]) -> Any:
        """A mapped argument goes to `mapped` and leaves an Each; others stay as they are, with Holes."""
        if isinstance(value, Unmapped):
            return self._plant(value.value, inputs)
        found = self._mapped_ref(name, value, inputs) if isinstance(value, Ref) else mapped_literal(name, value)
        if found is None:
            return value
        if found.items is not None:
            planted = [self._plant(item, inputs) for item in found.items]
            found = Mapped(name=name, items=planted, keys=found.keys)
        mapped.append(found)
        return Each(len(mapped) - 1)

    def _mapped_ref(self, name: str, ref: Ref, inputs: dict[Input, None]) -> Mapped:
        self._check(ref)
        is_map = self.nodes[ref._node].is_map and not ref._path
        inputs[Input(node=ref._node, edge=Edge.ITEMS if is_map else Edge.WHOLE)] = None
        return Mapped(name=name, hole=Hole(ref._node, ref._path), is_map=is_map)

    def _shape(self, label: str, mapped: Sequence[Mapped]) -> dict[str, Any]:
        """Length, source of keys, and whether a worker has to find them out."""
        lengths = [self._length(m) for m in mapped]
        check_lengths(label, [(m.name, length) for m, length in zip(mapped, lengths, strict=True)])
        check_keys(label, [keys for m in mapped if (keys := self._keys(m)) is not None])
        sources = [m.hole.node for m in mapped if m.is_map and m.hole]
        source = None if not sources or any(m.keys is not None for m in mapped) else sources[0]
        if None not in lengths:
            return {"length": lengths[0], "is_planned": False, "source": source}
        is_one = len(sources) == len(mapped) and len({self._origin(node) for node in sources}) == 1
        return {"length": None, "is_planned": not is_one, "source": source if is_one else None}

    def _length(self, mapped: Mapped) -> int | None:
        if mapped.is_map and mapped.hole:
            return self.nodes[mapped.hole.node].length
        return mapped.length

    def _keys(self, mapped: Mapped) -> Sequence[Any] | None:
        """Keys of a mapped dict, or of the one that a mapped map goes through, where they are known now."""
        if mapped.is_map and mapped.hole:
            inside = self.calls[self._origin(mapped.hole.node)].mapped
            return next((m.keys for m in inside if m.keys is not None), None)
        return mapped.keys

    def _origin(self, node: int) -> int:
        """The map whose items a map over maps goes through."""
        source = self.nodes[node].source
        while source is not None:
            node, source = source, self.nodes[source].source
        return node


def current() -> Tracer | None:
    """The tracer of the workflow whose body is running, if any."""
    return _current.get()


def trace(workflow: str, body: Callable[[], Any], fail_fast: bool = False, timeout_s: float | None = None) -> Traced:
    """Run a body once and return what it wrote down.

    Raises
    ------
    WorkflowError, RefError, ArgumentError
        For what cannot work; nothing has been submitted.
    """
    tracer = Tracer(workflow)
    token = _current.set(tracer)
    started = time.monotonic()
    try:
        result = body()
    finally:
        _current.reset(token)
    seconds = time.monotonic() - started
    if seconds > SLOW_TRACE_S:
        warnings.warn(
            f"tracing workflow {workflow!r} took {seconds:.1f} s: work is running in its body, outside of any step. "
            "Move it into a step.",
            TracingWarning,
            stacklevel=4,
        )
    return tracer.finish(result, fail_fast, timeout_s)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Name a stage: the steps called inside belong to it in pictures and in ``run.phases()``."""
    if not isinstance(name, str) or not name.strip():
        raise WorkflowError(f"a phase needs a name, not {name!r}.")
    tracer = current()
    if tracer is None:
        yield
        return
    outer, tracer.phase = tracer.phase, name
    tracer.phases[name] = None
    try:
        yield
    finally:
        tracer.phase = outer


def mapped_literal(name: str, value: Any) -> Mapped | None:
    """How `map` takes a value: its items, or None where it is passed whole.

    Lists, tuples, ranges, arrays, Series and the like are gone through; dicts by their values; everything else is a
    constant.

    Raises
    ------
    ArgumentError
        For a DataFrame, a set or an iterator, whose items are not plain.
    """
    kind = type(value)
    if isinstance(value, dict):
        return Mapped(name=name, items=list(value.values()), keys=tuple(value))
    if isinstance(value, (list, tuple, range)) and not hasattr(value, "_fields"):
        return Mapped(name=name, items=value)
    if kind.__name__ == "DataFrame":
        raise ArgumentError(
            f'{name} of map() is a DataFrame. Pass its rows as df.to_dict("records"), or cf.unmapped(df) for all of it.'
        )
    if isinstance(value, (set, frozenset, Iterator)):
        raise ArgumentError(f"{name} of map() is a {kind.__name__}, whose order or length is open. Pass list(…) of it.")
    if getattr(value, "ndim", 0) > 0 and hasattr(value, "__len__"):
        return Mapped(name=name, items=list(value))
    return None


def check_lengths(label: str, lengths: Sequence[tuple[str, int | None]]) -> None:
    """See that what is mapped together has one length.

    Raises
    ------
    LengthMismatchError
        Naming both.
    """
    known = [(name, length) for name, length in lengths if length is not None]
    for name, length in known[1:]:
        if length != known[0][1]:
            raise LengthMismatchError(
                f"{label}.map() got {known[0][1]} items in {known[0][0]} and {length} in {name}. "
                "Mapped values must be equally long; wrap what every call needs whole in cf.unmapped(…)."
            )


def check_keys(label: str, keys: Sequence[Sequence[Any]]) -> None:
    """See that dicts that are mapped together have the same keys, in the same order.

    Raises
    ------
    LengthMismatchError
        Showing two that differ.
    """
    for other in keys[1:]:
        if list(other) != list(keys[0]):
            raise LengthMismatchError(
                f"{label}.map() got dicts with different keys: {list(keys[0])!r:.200} and {list(other)!r:.200}. "
                "Mapped dicts need the same keys in the same order."
            )
