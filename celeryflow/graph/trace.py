"""Python calls to a Graph: the body of a workflow runs once, and each call of a step becomes a node."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from celeryflow.errors import (
    DuplicateNameError,
    EmptyWorkflowError,
    ForeignRefError,
    RefError,
    TracingWarning,
    WorkflowError,
)
from celeryflow.graph import limits
from celeryflow.graph.control import Again
from celeryflow.graph.mapped import Mapped, check_keys, check_lengths, mapped_literal
from celeryflow.graph.model import PRIORITY, Edge, Graph, Input, Node, NodeKind, OnError, Role
from celeryflow.graph.refs import Each, Hole, Ref, Unmapped, fill
from celeryflow.graph.traced import Call, Callee, Traced, with_fates

SLOW_TRACE_S, SLOW_NODE_S = 1.0, 0.0005

_current: ContextVar[Tracer | None] = ContextVar("celeryflow_tracer", default=None)


@dataclass
class Tracer:
    """Collects the nodes of one workflow while its body runs."""

    workflow: str
    nodes: list[Node] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    phases: dict[str, None] = field(default_factory=dict)
    phase: str | None = None
    gate: Input | None = None
    priority: int = PRIORITY
    _names: dict[str, Callable[..., Any] | None] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def call(
        self,
        callee: Callee,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        after: Sequence[Ref] = (),
        **shape: Any,
    ) -> Ref:
        """Add a node for one call."""
        inputs: dict[Input, None] = {}
        call = Call(callee=callee, args=self._plant(args, inputs), kwargs=self._plant(kwargs, inputs))
        self._plant(list(after), inputs)
        return self._add(call, inputs, name, **shape)

    def gather(self, callee: Callee, refs: Any, min_results: int, deadline_s: float | None) -> Ref:
        """Add a node that goes on with those of `refs` that are there: all that come, or by the deadline."""
        inputs: dict[Input, None] = {}
        planted = self._plant(refs, inputs, Edge.ENDED)
        call = Call(callee=callee, args=(planted,), kwargs={"min_results": min_results})
        return self._add(call, inputs, None, role=Role.GATHER, deadline_s=deadline_s)

    def decide(self, callee: Callee, value: Any) -> Ref:
        """Add a node whose value is the number of the arm to run."""
        return self.call(callee, (value,), {}, role=Role.DECIDE)

    def pick(self, callee: Callee, which: Ref | int, options: Sequence[Any], after: Sequence[int] = ()) -> Ref:
        """Add a node that passes one of `options` on, when all that they need, and the nodes `after`, have ended."""
        inputs: dict[Input, None] = {}
        args = self._plant(which, inputs), self._plant([*options], inputs, Edge.ENDED)
        inputs.update({Input(node=node, edge=Edge.ENDED): None for node in after})
        return self._add(Call(callee=callee, args=args, kwargs={}), inputs, None, role=Role.PICK)

    def expand(self, callee: Callee, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ref:
        """Add a node whose body is traced when its arguments are there."""
        return self.call(callee, args, kwargs, role=Role.EXPAND)

    def is_map(self, ref: Ref) -> bool:
        """Whether a Ref stands for all items of a map."""
        return self.nodes[ref._node].is_map and not ref._path

    def ends_with(self, value: Any) -> bool:
        """Whether a value is that of the last step, and all others are only there for it."""
        last = len(self.nodes) - 1
        if not (isinstance(value, Ref) and value._node == last and not value._path) or self.nodes[last].is_map:
            return False
        return len({i.node for n in self.nodes for i in n.inputs if i.edge is Edge.WHOLE}) == last

    @contextlib.contextmanager
    def gated(self, decision: Ref, choice: int) -> Iterator[None]:
        """What is called inside runs only if the decision is this one."""
        outer, self.gate = self.gate, Input(node=decision._node, edge=Edge.CHOICE, choice=choice)
        try:
            yield
        finally:
            self.gate = outer

    @contextlib.contextmanager
    def attempt(self, arguments: Any) -> Iterator[list[RefError]]:
        """Take back what was called inside if it needed the value of one of the Refs in `arguments`."""
        count, phases, phase = len(self.nodes), dict(self.phases), self.phase
        given: dict[Input, None] = {}
        self._plant(arguments, given)
        caught: list[RefError] = []
        try:
            yield caught
        except RefError as error:
            if error.node not in {i.node for i in given}:
                raise
            caught.append(error)
            while len(self.nodes) > count:
                del self._names[self.nodes.pop().name]
                self.calls.pop()
            self.phases, self.phase = phases, phase

    def map(
        self,
        callee: Callee,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_error: OnError,
        name: str | None = None,
        parameters: Sequence[str] = (),
        after: Sequence[Ref] = (),
        role: Role = Role.CALL,
    ) -> Ref:
        """Add a node that calls its step for each item of the mapped arguments."""
        inputs: dict[Input, None] = {}
        mapped: list[Mapped] = []
        names = [parameters[i] if i < len(parameters) else f"argument {i + 1}" for i in range(len(args))]
        label = callee.spec.label
        positional = tuple(self._sort(label, n, value, mapped, inputs) for n, value in zip(names, args, strict=True))
        keyword = {key: self._sort(label, key, value, mapped, inputs) for key, value in kwargs.items()}
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
        return self._add(call, inputs, name, kind=NodeKind.MAP, on_error=on_error, role=role, **shape)

    def run(self, body: Callable[[], Any]) -> Any:
        """What a body gives, whose calls are written down here."""
        token = _current.set(self)
        try:
            return body()
        finally:
            _current.reset(token)

    def finish(self, result: Any, **options: Any) -> Traced:
        """The traced workflow, with `options` of its Graph."""
        returned: dict[Input, None] = {}
        planted = self._plant(result, returned)
        limits.check_queues(self.workflow, {node.spec.queue for node in self.nodes})
        graph = Graph(
            name=self.workflow,
            nodes=with_fates(self.nodes, self.calls, {i.node for i in returned}),
            phases=tuple(self.phases),
            **options,
        )
        return Traced(graph=graph, calls=tuple(self.calls), result=planted)

    def _add(self, call: Call, inputs: dict[Input, None], name: str | None, **shape: Any) -> Ref:
        spec, index = call.callee.spec, len(self.nodes)
        if spec.quota is not None and shape.get("kind") is NodeKind.MAP and shape.get("length") is None:
            raise WorkflowError(
                f"step {spec.label!r} has a quota, and how many items it has is known only when its input is there. "
                "Give it a list that is there at the submit."
            )
        if not call.callee.has_priority and spec.priority != self.priority:
            spec = structs.replace(spec, priority=self.priority)
        if self.gate is not None:
            inputs[self.gate] = None
        limits.check_nodes(self.workflow, index + 1)
        unique = self._name(call.callee, name)
        self.nodes.append(Node(index=index, name=unique, spec=spec, phase=self.phase, inputs=tuple(inputs), **shape))
        self.calls.append(call)
        return Ref(self, index, unique, 1 if "kind" in shape else spec.outputs)

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

    def _plant(self, value: Any, inputs: dict[Input, None], edge: Edge = Edge.WHOLE) -> Any:
        """`value` with Holes for its Refs, which are added to `inputs`."""

        def put(ref: Any) -> Any:
            self.check(ref)
            inputs[Input(node=ref._node, edge=edge)] = None
            return Hole(ref._node, ref._path)

        return fill(value, put)

    def check(self, ref: Ref) -> None:
        """See that a Ref is of this workflow."""
        if ref._tracer is not self:
            raise ForeignRefError(
                f"{ref!r} belongs to another workflow, {ref._tracer.workflow!r}. "
                f"Call its step in the body of {self.workflow!r}, or pass a value: run.value({ref._step!r})."
            )

    def _sort(self, label: str, name: str, value: Any, mapped: list[Mapped], inputs: dict[Input, None]) -> Any:
        """A mapped argument goes to `mapped` and leaves an Each; others stay as they are, with Holes."""
        if isinstance(value, Unmapped):
            return self._plant(value.value, inputs)
        found = self._mapped_ref(name, value, inputs) if isinstance(value, Ref) else mapped_literal(name, value)
        if found is None:
            return value
        if found.items is not None:
            limits.check_items(label, len(found.items))
            planted = [self._plant(item, inputs) for item in found.items]
            found = Mapped(name=name, items=planted, keys=found.keys)
        mapped.append(found)
        return Each(len(mapped) - 1)

    def _mapped_ref(self, name: str, ref: Ref, inputs: dict[Input, None]) -> Mapped:
        self.check(ref)
        is_map = self.is_map(ref)
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


def trace(workflow: str, body: Callable[[], Any], priority: int = PRIORITY, **options: Any) -> Traced:
    """Run a body once and return what it wrote down.

    Steps that have no priority of their own get this one; `options` are those of the Graph.

    Raises
    ------
    WorkflowError, RefError, ArgumentError
        For what cannot work; nothing has been submitted.
    """
    tracer, started = Tracer(workflow, priority=priority), time.monotonic()
    result = tracer.run(body)
    if not tracer.nodes:
        raise EmptyWorkflowError(f"workflow {workflow!r} calls no step. Call at least one @cf.step in its body.")
    seconds = time.monotonic() - started
    if seconds > max(SLOW_TRACE_S, SLOW_NODE_S * len(tracer.nodes)):
        warnings.warn(
            f"tracing workflow {workflow!r} took {seconds:.1f} s: work is running in its body, outside of any step. "
            "Move it into a step.",
            TracingWarning,
            stacklevel=4,
        )
    return tracer.finish(result, **options)


def expand(step: str, body: Callable[[], Any], picker: Callee, priority: int) -> tuple[Any, Traced | None]:
    """Trace a body in the middle of a run: its value where it calls nothing, and else what it calls.

    The last node of the graph has the value, and nothing is left to do after its end.
    """
    tracer = Tracer(step, priority=priority)
    found = tracer.run(body)
    if not tracer.nodes:
        return found, None
    result = found.value if isinstance(found, Again) else found
    if not tracer.ends_with(result):
        result = tracer.pick(picker, 0, [result], range(len(tracer.nodes)))
    return found, tracer.finish(result)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Name a stage: the steps called inside belong to it in pictures and in ``run.phases()``."""
    if not isinstance(name, str) or not name.strip() or name.encode(errors="ignore").decode() != name:
        raise WorkflowError(f"a phase needs a name, not {name!r:.250}.")
    limits.check_phase(name)
    tracer = current()
    if tracer is None:
        yield
        return
    limits.check_phases(name, len(tracer.phases.keys() | {name}))
    outer, tracer.phase = tracer.phase, name
    tracer.phases[name] = None
    try:
        yield
    finally:
        tracer.phase = outer
