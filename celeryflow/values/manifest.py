"""A traced workflow to signed records: what workers execute and clients show is read from these alone."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from celeryflow.errors import SerializationError
from celeryflow.graph import trace
from celeryflow.graph.model import Edge, Graph, Node, NodeKind, OnError, Record, StepSpec
from celeryflow.graph.trace import Traced
from celeryflow.values import codec
from celeryflow.values.functions import pack_function
from celeryflow.values.vault import CALL, MANIFEST, PYTHON, Pointer, Vault

FEW_INPUTS = 16
"""Up to this many results of steps come with a claim; more are fetched by the worker."""

_EDGE_CODES = {Edge.WHOLE: 0, Edge.ITEMS: 1, Edge.LENGTH: 2}


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
    of the `mapped`.
    """

    step: str
    spec: StepSpec
    code: str
    template: Pointer
    kind: NodeKind = NodeKind.STEP
    feeds: tuple[Feed, ...] = ()
    mapped: tuple[Mapped, ...] = ()
    on_error: OnError = OnError.RAISE
    is_planned: bool = False
    length: int | None = None


class Manifest(Record, frozen=True):
    """A run as its submitter signed it; `result` points to the body's value, with Holes in it."""

    run: str
    version: str
    graph: Graph
    result: Pointer
    directory: str
    path: tuple[str, ...]
    blob_limit_bytes: int
    python: str = PYTHON


class Sealed(NamedTuple):
    """A run ready to be stored: see `Store.stage` and `Store.submit`."""

    graph: Graph
    result: Pointer
    manifest: bytes
    code: dict[str, bytes]
    digests: list[str]
    specs: list[bytes]
    plans: list[bytes]
    dependents: dict[int, bytes]
    missing: bytes
    lengths: dict[str, int]


def seal_run(traced: Traced, run: str, vault: Vault, version: str, pool: str = "") -> Sealed:
    """Sign a traced workflow as run `run` for the workers of `pool`, storing its large arguments.

    Raises
    ------
    SerializationError, ValueTooLargeError
        Naming step and argument. Nothing but unreferenced blobs is left behind.
    """
    graph, code = traced.graph, _pack_functions(traced)
    digests = [code[id(call.callee.function)][0] for call in traced.calls]
    records = (_call(graph, n, c, d, vault) for n, c, d in zip(graph.nodes, traced.calls, digests, strict=True))
    manifest = Manifest(
        run=run,
        version=version,
        graph=graph,
        result=vault.point([traced.result], f"the result of workflow {graph.name!r}"),
        directory=str(Path.cwd()),
        path=tuple(sys.path),
        blob_limit_bytes=vault.limit_bytes,
    )
    stored = vault.point([msgspec.msgpack.encode(manifest)], f"the graph of workflow {graph.name!r}")
    users = _users(graph)
    return Sealed(
        graph=graph,
        result=manifest.result,
        manifest=vault.seal(MANIFEST, (run,), stored),
        code=dict(code.values()),
        digests=digests,
        specs=[vault.seal(CALL, (run, index), record) for index, record in enumerate(records)],
        plans=[_plan(graph, n, d, users.get(n.index, []), pool) for n, d in zip(graph.nodes, digests, strict=True)],
        dependents={node: struct.pack(f"<{len(codes)}I", *codes) for node, codes in users.items()},
        missing=struct.pack(f">{len(graph.nodes)}I", *(_missing(node) for node in graph.nodes)),
        lengths={f"{n.index}:n": n.length for n in graph.nodes if n.length is not None},
    )


def open_manifest(record: bytes, run: str, vault: Vault) -> Manifest:
    """The manifest of a run, verified."""
    pointer = vault.open_as(MANIFEST, Pointer, record, (run,))
    (data,) = codec.unpack(vault.fetch(pointer))
    return msgspec.msgpack.decode(data, type=Manifest)


def origin(graph: Graph, node: int) -> int:
    """The map whose items and keys a map goes through; -1 for a step."""
    if not graph.nodes[node].is_map:
        return -1
    while (source := graph.nodes[node].source) is not None:
        node = source
    return node


def _pack_functions(traced: Traced) -> dict[int, tuple[str, bytes]]:
    packed: dict[int, tuple[str, bytes]] = {}
    for call in traced.calls:
        callee = call.callee
        if id(callee.function) not in packed:
            packed[id(callee.function)] = pack_function(callee.function, callee.retry_on, callee.spec.label)
    return packed


def _call(graph: Graph, node: Node, call: trace.Call, digest: str, vault: Vault) -> Call:
    template = (call.args, call.kwargs, tuple(m.hole for m in call.mapped))
    try:
        pointer = vault.point([template], f"the arguments of step {node.name!r}")
    except SerializationError as error:
        raise _name_argument(node, call, error) from error
    return Call(
        step=node.name,
        spec=node.spec,
        code=digest,
        template=pointer,
        kind=node.kind,
        feeds=tuple(feed_of(graph, i.node, i.edge) for i in node.inputs),
        mapped=tuple(_mapped(node, mapped, vault) for mapped in call.mapped),
        on_error=node.on_error,
        is_planned=node.is_planned,
        length=node.length,
    )


def _name_argument(node: Node, call: trace.Call, error: SerializationError) -> SerializationError:
    named = {**{f"{i + 1}": value for i, value in enumerate(call.args)}, **call.kwargs}
    for name, value in named.items():
        try:
            codec.dumps(value, f"argument {name} of step {node.name!r}")
        except SerializationError as found:
            return found
    return error


def feed_of(graph: Graph, node: int, edge: Edge = Edge.WHOLE) -> Feed:
    """How a user of `node` reads it."""
    source = graph.nodes[node]
    return Feed(node=node, name=source.name, edge=edge, origin=origin(graph, node), on_error=source.on_error)


def _mapped(node: Node, mapped: trace.Mapped, vault: Vault) -> Mapped:
    what = f"{mapped.name} of step {node.name!r}"
    return Mapped(
        name=mapped.name,
        is_map=mapped.is_map,
        items=None if mapped.items is None else vault.point(mapped.items, what),
        keys=None if mapped.keys is None else vault.point(mapped.keys, f"the keys of {what}"),
    )


def _users(graph: Graph) -> dict[int, list[int]]:
    """Dependents of each node as ``4 * node + edge``; those of nothing depend on an imaginary last node."""
    users: dict[int, list[int]] = {}
    for node in graph.nodes:
        for needed in node.inputs:
            users.setdefault(needed.node, []).append(4 * node.index + _EDGE_CODES[needed.edge])
        if not node.inputs:
            users.setdefault(len(graph.nodes), []).append(4 * node.index)
    return users


def _missing(node: Node) -> int:
    """What it waits for before any of its items can run."""
    return sum(needed.edge is not Edge.ITEMS for needed in node.inputs) or int(not node.inputs)


def _plan(graph: Graph, node: Node, digest: str, users: list[int], pool: str = "") -> bytes:
    """What the Lua verbs know of a node, in the order that base.lua names."""
    steps = [i.node for i in node.inputs if i.edge is Edge.WHOLE and not graph.nodes[i.node].is_map]
    plan: list[Any] = [
        "m" if node.is_map else "s",
        node.spec.queue + pool,
        node.spec.priority,
        node.spec.max_worker_losses,
        digest[:8],
        steps if len(steps) <= FEW_INPUTS else [],
        [needed.node for needed in node.inputs if needed.edge is Edge.ITEMS],
        [code // 4 for code in users if code % 4 == _EDGE_CODES[Edge.ITEMS]],
        node.is_planned,
    ]
    return msgspec.msgpack.encode(plan)
