"""What a run has stored that another one may take: verified, still there, and following from its inputs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from celeryflow.engine.link import Link
from celeryflow.engine.read import Arrival, Length
from celeryflow.graph.model import Edge, Input, Node, OnError, Role
from celeryflow.store.claims import Item
from celeryflow.values.manifest import Part
from celeryflow.values.vault import GATHERED, LENGTH, PART, PYTHON, VALUE, Pointer


class Stored(NamedTuple):
    """A verified record: kind, body, and how many bytes it stands for."""

    kind: str
    body: bytes
    size: int = 0


class Results:
    """Results of a run.

    Parameters
    ----------
    link : Link
        Where they are.
    run : str
        Its id.
    nodes : sequence of Node
        Those that its body called.

    Attributes
    ----------
    records : dict of Item to Stored
        By node and first item: values, lengths and gathers.
    lengths : dict of int to (int or None)
        Items of each map, as far as known.
    chunks : dict of int to list of int
        Of maps: for each item the first item of the record that holds its value, -1 where it has none.
    whole : set of int
        Nodes all of which succeeded.
    tainted : set of int
        Nodes whose results do not follow from their keys alone: on the way to them, failures were left out.

    Raises
    ------
    SignatureError
        If anything was changed or moved.
    """

    def __init__(self, link: Link, run: str, nodes: Sequence[Node]) -> None:
        self.link, self.run = link, run
        parts = (
            link.vault.open_as(PART, Part, record, (run, first)).nodes
            for first, record in link.store.all_parts(run).items()
        )
        inner = sorted((node for part in parts for node in part), key=lambda node: (-node.depth, node.index))
        # What was added to the run stands before what added it.
        self.nodes: Mapping[int, Node] = {node.index: node for node in (*inner, *nodes)}
        self.records = self._read([(n.index, 0) for n in self.nodes.values() if not n.is_map])
        self.records |= self._read([(n.index, -1) for n in self.nodes.values() if n.is_planned])
        self.lengths: dict[int, int | None] = {}
        for node in self.nodes.values():
            self.lengths[node.index] = self._length(node)
        self.chunks: dict[int, list[int]] = {n.index: [] for n in self.nodes.values() if n.is_map}
        self._begun: set[int] = set()
        self._read_chunks()
        self.whole = {index for index, node in self.nodes.items() if self._is_whole(node)}
        self.tainted: set[int] = set()
        self._find_tainted()

    def _length(self, node: Node) -> int | None:
        planned = self.records.get((node.index, -1))
        if planned is not None:
            return msgspec.msgpack.decode(planned.body, type=Length).count
        return self.lengths[node.source] if node.length is None and node.source is not None else node.length

    def _read_chunks(self) -> None:
        marks = self.link.store.chunks_of(self.run, {n: length for n in self.chunks if (length := self.lengths[n])})
        self.records |= self._read(sorted({(n, mark) for n, found in marks.items() for mark in found if mark >= 0}))
        for node, found in marks.items():
            self.chunks[node] = [mark if (node, mark) in self.records else -1 for mark in found]
            if max(found) >= 0:
                self._begun.add(node)

    def _read(self, items: Sequence[Item]) -> dict[Item, Stored]:
        records = zip(items, self.link.store.outputs(self.run, items), strict=True)
        opened = ((i, self.link.vault.open(record, (self.run, *i))) for i, record in records if record is not None)
        return {item: stored for item, record in opened if (stored := self._usable(*record)) is not None}

    def _usable(self, kind: str, body: bytes) -> Stored | None:
        """A record of a result that can be read here; None for failures and the like."""
        if kind == LENGTH:
            length = msgspec.msgpack.decode(body, type=Length)
            return Stored(kind, body) if all(map(self._is_there, (length.keys, *length.items))) else None
        pointer = msgspec.msgpack.decode(body, type=Pointer) if kind == VALUE else None
        if kind == GATHERED or (pointer is not None and self._is_there(pointer)):
            return Stored(kind, body, pointer.size if pointer else 0)
        return None

    def _is_there(self, pointer: Pointer | None) -> bool:
        """Whether what it points to can be read here; its blob is kept for another hour, until a run may name it."""
        if pointer is None:
            return True
        return pointer.python == PYTHON and (
            not pointer.digest or self.link.vault.blobs.touch(pointer.digest, pointer.size)
        )

    def _is_whole(self, node: Node) -> bool:
        if node.is_map:
            return self.lengths[node.index] is not None and -1 not in self.chunks[node.index]
        return (node.index, 0) in self.records and not self._is_partial(node)

    def _is_partial(self, node: Node) -> bool:
        """Whether a gather went on without some of its inputs."""
        kind, body, _ = self.records.get((node.index, 0), Stored("", b""))
        return kind == GATHERED and bool(msgspec.msgpack.decode(body, type=Arrival).missing)

    def _find_tainted(self) -> None:
        for index, node in self.nodes.items():
            if any(self._taints(node, needed) for needed in node.inputs):
                self.tainted.add(index)
            some = index in self._begun and index not in self.whole and node.on_error is not OnError.RAISE
            if node.parent >= 0 and (index in self.tainted or some or self._is_partial(node)):
                self.tainted.add(node.parent)

    def _taints(self, node: Node, needed: Input) -> bool:
        source = needed.node
        if source in self.tainted:
            return True
        if needed.edge in (Edge.WHOLE, Edge.CHOICE):
            return source not in self.whole
        if needed.edge is Edge.ENDED and node.role is Role.GATHER:
            return self._is_partial(node)
        return needed.edge is Edge.ENDED and source in self._begun and source not in self.whole
