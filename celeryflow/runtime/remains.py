"""A run once more, as a new generation: what succeeded is kept, item by item, and the rest runs again."""

from __future__ import annotations

from collections.abc import Mapping

from celeryflow.engine.read import Reader
from celeryflow.graph.model import Edge, Input, Node, OnError
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.wiring import Wiring
from celeryflow.store.claims import Item
from celeryflow.store.generations import Rest
from celeryflow.values.vault import FAILURE, VALUE


def find_rest(snapshot: Snapshot, reader: Reader, expanded: Mapping[Item, int]) -> Rest:
    """What is left of a run that has ended, or that nobody carries on.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    reader : Reader
        Its results.
    expanded : mapping
        By node and item, the last node of the part that it added.
    """
    again, left_out, nodes = set[int](), set[int](), snapshot.nodes
    for index in sorted(snapshot.unfinished()):
        is_closed = any(_is_closed(snapshot, reader, needed, left_out) for needed in nodes[index].inputs)
        (left_out if is_closed else again).add(index)
    lengths = {index: snapshot.record_of(index).length for index, node in nodes.items() if node.is_map}
    kept = {index: _kept(reader, nodes[index], length) for index in sorted(again) if (length := lengths.get(index))}
    return Wiring(nodes, again, kept, lengths, expanded).find()


def _is_closed(snapshot: Snapshot, reader: Reader, needed: Input, left_out: set[int]) -> bool:
    """Whether an input is of another arm than was taken, though the run ended before that was told."""
    if needed.node in left_out:
        return needed.edge in (Edge.WHOLE, Edge.CHOICE)
    is_decided = needed.edge is Edge.CHOICE and snapshot.record_of(needed.node).status is State.SUCCESS
    return is_decided and bool(reader.outcome(needed.node).value != needed.choice)


def _kept(reader: Reader, node: Node, length: int) -> list[int]:
    """For each item of a map the first item of its chunk, -1 where it runs again."""
    chunks = reader.chunks(node.index, 0, length)
    kinds = [kind for kind, _ in reader.kinds(node.index, length)]
    good = {VALUE, FAILURE} if node.on_error is OnError.RETURN else {VALUE}
    return [c if kind in good else -1 for c, kind in zip(chunks, kinds, strict=True)]
