"""A traced workflow to signed records: what workers execute and clients show is read from these alone."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from celeryflow.errors import SerializationError, ValueTooLargeError
from celeryflow.graph.checks import storable
from celeryflow.graph.mapped import Mapped as LiveMapped
from celeryflow.graph.model import Edge, Graph, Node, NodeKind, OnError, Record, Role, StepSpec
from celeryflow.graph.refs import holes
from celeryflow.graph.traced import Call as LiveCall
from celeryflow.graph.traced import Traced
from celeryflow.values import codec
from celeryflow.values.environment import pack_environment
from celeryflow.values.functions import pack_function
from celeryflow.values.named import name_of
from celeryflow.values.vault import CALL, MANIFEST, PART, PYTHON, Pointer, Vault

FEW_INPUTS = 16
"""Up to this many results of steps come with a claim; more are fetched by the worker."""

_EDGE_CODES = {Edge.WHOLE: 0, Edge.ITEMS: 1, Edge.LENGTH: 2, Edge.ENDED: 3, Edge.CHOICE: 4}

ANY_ERROR = ("builtins:Exception",)

Nodes = Sequence[Node] | Mapping[int, Node]
"""Nodes by index."""


class Feed(Record, frozen=True):
    """An input as its user reads it. `origin` is the map whose keys it has, -1 for a step."""

    node: int
    name: str
    edge: Edge = Edge.WHOLE
    origin: int = -1
    on_error: OnError = OnError.RAISE


class Mapped(Record, frozen=True):
    """A mapped argument as a worker reads it: literal items, or what its hole names."""

    name: str
    is_map: bool = False
    items: Pointer | None = None
    keys: Pointer | None = None


class Call(Record, frozen=True):
    """All that a worker needs to run a node.

    `template` points to ``(args, kwargs, holes)``: arguments with Holes and Eaches in them, and a Hole or None for each
    of the `mapped`. `function` is the name of the function, and `retry_on` those of exceptions, for workers that take
    no code by value.
    """

    step: str
    spec: StepSpec
    code: str
    template: Pointer
    function: str = ""
    retry_on: tuple[str, ...] = ANY_ERROR
    kind: NodeKind = NodeKind.STEP
    feeds: tuple[Feed, ...] = ()
    mapped: tuple[Mapped, ...] = ()
    on_error: OnError = OnError.RAISE
    is_planned: bool = False
    length: int | None = None
    role: Role = Role.CALL
    depth: int = 0
    phase: str | None = None
    is_fatal: bool = True


class Part(Record, frozen=True):
    """Nodes that were added to a run while it went on."""

    nodes: tuple[Node, ...]


class Manifest(Record, frozen=True):
    """A run as its submitter signed it; `result` points to the body's value, with Holes in it.

    `arguments` points to what the body was called with, None where that cannot be stored; `environment` names the
    versions that were installed. `base` is the run whose results it took over, and `rerun` what of it was to run again.
    `directory` and `path` are bytes, as file names need have no encoding.
    `job` is the id that it was submitted under, and `job_mark` what its arguments and code came to.
    """

    run: str
    version: str
    graph: Graph
    result: Pointer
    directory: bytes
    path: tuple[bytes, ...]
    blob_limit_bytes: int
    python: str = PYTHON
    arguments: Pointer | None = None
    environment: str = ""
    base: str = ""
    rerun: str = "changed"
    job: str = ""
    job_mark: str = ""


class Sealed(NamedTuple):
    """A graph ready to be stored: see `Store.stage`; `record` is a signed Manifest or Part."""

    nodes: tuple[Node, ...]
    record: bytes
    code: dict[str, bytes]
    digests: list[str]
    specs: list[bytes]
    plans: list[bytes]
    dependents: dict[int, bytes]
    missing: bytes
    lengths: dict[str, int]
    environment: str = ""

    @property
    def first(self) -> int:
        """Index of the first node."""
        return self.nodes[0].index

    @property
    def root(self) -> int:
        """Index of the imaginary node that those which wait for nothing depend on."""
        return self.nodes[-1].index + 1


PackedCode = dict[int, tuple[Any, str, bytes]]
"""Functions that were packed already, by identity: they themselves, their digests and bytes."""


def seal_run(
    traced: Traced, run: str, vault: Vault, version: str, pool: str = "", **base: str
) -> tuple[Sealed, Pointer]:
    """Sign a traced workflow as run `run` for the workers of `pool`, storing its large arguments; and its result.

    `base`, `rerun`, `job` and `job_mark` of the manifest may be given.

    Raises
    ------
    SerializationError, ValueTooLargeError
        Naming step and argument. Nothing but unreferenced blobs is left behind.
    """
    graph, packed = traced.graph, _pack_functions(traced, {})
    environment, versions = pack_environment(data for _, _, data in packed.values())
    manifest = Manifest(
        run=run,
        version=version,
        graph=graph,
        result=vault.point([traced.result], f"the result of workflow {graph.name!r}"),
        directory=os.fsencode(Path.cwd()),
        path=tuple(map(os.fsencode, sys.path)),
        blob_limit_bytes=vault.limit_bytes,
        arguments=_arguments(traced, vault),
        environment=environment,
        **base,
    )
    stored = vault.keep([msgspec.msgpack.encode(manifest)], f"the graph of workflow {graph.name!r}")
    sealed = _seal(traced, run, vault, vault.seal(MANIFEST, (run,), stored), pool, packed)
    return sealed._replace(code={**sealed.code, environment: versions}, environment=environment), manifest.result


def _arguments(traced: Traced, vault: Vault) -> Pointer | None:
    """Where the arguments of the workflow's body are stored; None where they cannot be."""
    try:
        return vault.point([traced.arguments], "the arguments") if traced.arguments is not None else None
    except (SerializationError, ValueTooLargeError):
        return None


def seal_part(
    traced: Traced, run: str, vault: Vault, returns: tuple[int, int], pool: str, packed: PackedCode
) -> Sealed:
    """Sign what node and item `returns` add to their run; the last node has their value."""
    nodes = traced.graph.nodes
    record = vault.seal(PART, (run, nodes[0].index), Part(nodes=nodes))
    return _seal(traced, run, vault, record, pool, packed, returns)


def _seal(
    traced: Traced,
    run: str,
    vault: Vault,
    record: bytes,
    pool: str,
    packed: PackedCode,
    returns: tuple[int, int] | None = None,
) -> Sealed:
    nodes = traced.graph.nodes
    known = {n.index: n for n in nodes}
    code = _pack_functions(traced, packed)
    mine = [code[id(call.callee.function)] for call in traced.calls]
    calls = (_call(known, n, c, d, vault) for n, c, (_, d, _) in zip(nodes, traced.calls, mine, strict=True))
    specs = [vault.seal(CALL, (run, n.index), call) for n, call in zip(nodes, calls, strict=True)]
    sealed = wire(nodes, [digest for _, digest, _ in mine], specs, holes(traced.result), pool, returns)
    return sealed._replace(record=record, code={digest: data for _, digest, data in mine})


def wire(
    nodes: tuple[Node, ...],
    digests: list[str],
    specs: list[bytes],
    returned: set[int],
    pool: str = "",
    returns: tuple[int, int] | None = None,
) -> Sealed:
    """How nodes depend on each other, as the Lua verbs read it; `returned` are those whose value is the workflow's."""
    users = _users(nodes)
    plans = Plans({n.index: n for n in nodes}, users, returned, pool, returns)
    return Sealed(
        nodes=nodes,
        record=b"",
        code={},
        digests=digests,
        specs=specs,
        plans=[plans.encode(n, d) for n, d in zip(nodes, digests, strict=True)],
        dependents={node: struct.pack(f"<{len(codes)}I", *codes) for node, codes in users.items()},
        missing=struct.pack(f">{len(nodes)}I", *(_missing(node) for node in nodes)),
        lengths={f"{n.index}:n": n.length for n in nodes if n.length is not None},
    )


def open_manifest(record: bytes, run: str, vault: Vault) -> Manifest:
    """The manifest of a run, verified."""
    pointer = vault.open_as(MANIFEST, Pointer, record, (run,))
    return msgspec.msgpack.decode(vault.fetch(pointer), type=Manifest)


def origin(nodes: Nodes, node: int) -> int:
    """The map whose items and keys a map goes through; -1 for a step."""
    if not nodes[node].is_map:
        return -1
    while (source := nodes[node].source) is not None:
        node = source
    return node


def _pack_functions(traced: Traced, packed: PackedCode) -> PackedCode:
    for call in traced.calls:
        callee = call.callee
        if id(callee.function) not in packed:
            digest, data = pack_function(callee.function, callee.retry_on, callee.spec.label)
            packed[id(callee.function)] = callee.function, digest, data
    return packed


def _call(nodes: Nodes, node: Node, call: LiveCall, digest: str, vault: Vault) -> Call:
    template = (call.args, call.kwargs, tuple(m.hole for m in call.mapped))
    try:
        pointer = vault.point([template], f"the arguments of step {node.name!r}")
    except SerializationError as error:
        raise _name_argument(node, call, error) from error
    return Call(
        step=node.name,
        spec=node.spec,
        code=digest,
        function=name_of(call.callee.function),
        retry_on=tuple(name_of(error) or error.__name__ for error in call.callee.retry_on),
        template=pointer,
        kind=node.kind,
        feeds=tuple(feed_of(nodes, i.node, i.edge) for i in node.inputs),
        mapped=tuple(_mapped(node, mapped, vault) for mapped in call.mapped),
        on_error=node.on_error,
        is_planned=node.is_planned,
        length=node.length,
        role=node.role,
        depth=node.depth,
        phase=node.phase,
        is_fatal=node.is_fatal,
    )


def _name_argument(node: Node, call: LiveCall, error: SerializationError) -> SerializationError:
    named = {**{f"{i + 1}": value for i, value in enumerate(call.args)}, **call.kwargs}
    for name, value in named.items():
        try:
            codec.dumps(value, f"argument {name} of step {node.name!r}")
        except SerializationError as found:
            return found
    return error


def feed_of(nodes: Nodes, node: int, edge: Edge = Edge.WHOLE) -> Feed:
    """How a user of `node` reads it."""
    source = nodes[node]
    return Feed(node=node, name=source.name, edge=edge, origin=origin(nodes, node), on_error=source.on_error)


def _mapped(node: Node, mapped: LiveMapped, vault: Vault) -> Mapped:
    what = f"{mapped.name} of step {node.name!r}"
    return Mapped(
        name=storable(mapped.name),
        is_map=mapped.is_map,
        items=None if mapped.items is None else vault.point(mapped.items, what),
        keys=None if mapped.keys is None else vault.point(mapped.keys, f"the keys of {what}"),
    )


def _users(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """Dependents of each node as ``8 * node + edge``; those of nothing depend on an imaginary last node."""
    users: dict[int, list[int]] = {}
    root = nodes[-1].index + 1
    for node in nodes:
        for needed in node.inputs:
            users.setdefault(needed.node, []).append(8 * node.index + _EDGE_CODES[needed.edge])
        if not node.inputs:
            users.setdefault(root, []).append(8 * node.index)
    return users


def _missing(node: Node) -> int:
    """What it waits for before any of its items can run."""
    return sum(needed.edge is not Edge.ITEMS for needed in node.inputs) or int(not node.inputs)


def queue_of(spec: StepSpec) -> str:
    """Where the store keeps what is ready of a step: apart where so many may run at a time, or so many in a process."""
    cap = "" if spec.max_running is None else f"%{spec.name}%{spec.max_running}"
    return spec.queue + cap + ("" if spec.concurrency is None else f"~{spec.concurrency}")


class Plans:
    """What the Lua verbs know of the nodes of a graph, in the order that base.lua names."""

    def __init__(
        self,
        nodes: Mapping[int, Node],
        users: Mapping[int, list[int]],
        returned: set[int],
        pool: str,
        returns: tuple[int, int] | None,
    ) -> None:
        self.nodes, self.users, self.returned, self.pool, self.returns = nodes, users, returned, pool, returns
        self._timed = [n for n in nodes.values() if n.deadline_s is not None]
        self._timers: dict[int, list[int]] = {}
        for gather in self._timed:
            for i in gather.inputs:
                self._timers.setdefault(i.node, []).append(gather.index)
        self._left_out = self._upstream([n.index for n in self._timed])

    def encode(self, node: Node, digest: str) -> bytes:
        """The plan of one node."""
        steps = [i.node for i in node.inputs if i.edge is Edge.WHOLE and not self.nodes[i.node].is_map]
        plan: list[Any] = [
            "m" if node.is_map else "s",
            queue_of(node.spec) + self.pool,
            node.spec.priority,
            node.spec.max_worker_losses,
            digest[:8],
            steps if len(steps) <= FEW_INPUTS else [],
            [needed.node for needed in node.inputs if needed.edge is Edge.ITEMS],
            [code // 8 for code in self.users.get(node.index, []) if code % 8 == _EDGE_CODES[Edge.ITEMS]],
            node.is_planned,
            node.is_fatal,
            self._extra(node),
        ]
        return msgspec.msgpack.encode(plan)

    def _extra(self, node: Node) -> dict[str, Any] | bool:
        """What few nodes have; False where there is nothing."""
        gates = [i.choice for i in node.inputs if i.edge is Edge.CHOICE]
        is_last = self.returns is not None and node.index == max(self.nodes)
        extra = {
            "role": node.role.value if node.role in (Role.DECIDE, Role.EXPAND) else None,
            "choice": gates[0] if gates else None,
            "deadline_s": node.deadline_s,
            "timers": self._timers.get(node.index),
            "inputs": [i.node for i in node.inputs] if node.index in self._left_out else None,
            "is_returned": (node.index in self.returned) or None,
            "returns": self.returns if is_last else None,
            "parent": self.returns[0] if self.returns else None,
        }
        return {name: value for name, value in extra.items() if value is not None} or False

    def _upstream(self, found: list[int]) -> set[int]:
        """These nodes and all that they need."""
        seen: set[int] = set()
        while found:
            node = found.pop()
            if node not in seen:
                seen.add(node)
                found += [i.node for i in self.nodes[node].inputs]
        return seen
