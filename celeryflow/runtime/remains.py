"""A run once more, as a new generation: what succeeded is kept, item by item, and the rest runs again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from celeryflow.engine.read import Reader
from celeryflow.graph.model import Edge, Input, Node, OnError
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.store.generations import Rest
from celeryflow.store.scripts import Item
from celeryflow.values.vault import FAILURE, VALUE


class Remains:
    """Works out the Rest of a run that has ended, or that nobody carries on.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    reader : Reader
        Its results.
    expanded : mapping
        By node and item, the last node of the part that it added.
    """

    def __init__(self, snapshot: Snapshot, reader: Reader, expanded: Mapping[Item, int]) -> None:
        self.snapshot, self.reader, self.nodes = snapshot, reader, snapshot.nodes
        self._expanded = expanded
        self.rest = Rest()
        self._again: set[int] = set()

    def find(self) -> Rest:
        """Which nodes and items run again, and what they wait for."""
        left_out: set[int] = set()
        for index in sorted(self.snapshot.unfinished()):
            is_closed = any(self._is_closed(needed, left_out) for needed in self.nodes[index].inputs)
            (left_out if is_closed else self._again).add(index)
        self.rest.again = sorted(self._again)
        for index in self.rest.again:
            self._keep_items(self.nodes[index])
        for index in self.rest.again:
            self._wire(self.nodes[index])
        return self.rest

    def _is_closed(self, needed: Input, left_out: set[int]) -> bool:
        """Whether an input is of another arm than was taken, though the run ended before that was told."""
        if needed.node in left_out:
            return needed.edge in (Edge.WHOLE, Edge.CHOICE)
        is_decided = needed.edge is Edge.CHOICE and self.snapshot.record_of(needed.node).status is State.SUCCESS
        return is_decided and self.reader.outcome(needed.node).value != needed.choice

    def _length(self, node: Node) -> int | None:
        return self.snapshot.record_of(node.index).length

    def _keep_items(self, node: Node) -> None:
        length = self._length(node)
        if not node.is_map or length is None:
            return
        self.rest.lengths[node.index] = length
        if not length:
            return
        chunks = self.reader.chunks(node.index, 0, length)
        kinds = [kind for kind, _ in self.reader.kinds(node.index, length)]
        good = {VALUE, FAILURE} if node.on_error is OnError.RETURN else {VALUE}
        self.rest.kept[node.index] = [c if kind in good else -1 for c, kind in zip(chunks, kinds, strict=True)]

    def _is_there(self, index: int, item: int) -> bool:
        """Whether a map's item is kept: all of them are, of one that succeeded."""
        return index not in self._again or (index in self.rest.kept and self.rest.kept[index][item] >= 0)

    def _wire(self, node: Node) -> None:
        waits = sum(self._waits_for(needed) for needed in node.inputs)
        if node.is_map and self._length(node):
            self._find_ranges(node)
        is_growing = not node.is_map and self._expanded.get((node.index, 0)) in self._again
        if is_growing:
            self.rest.growing.append(node.index)
        elif not waits:
            self.rest.ready.append(node.index)
        self.rest.missing[node.index] = waits or int(not is_growing)

    def _waits_for(self, needed: Input) -> bool:
        if needed.edge is Edge.ITEMS:
            return False
        if needed.edge is Edge.LENGTH:
            return self._length(self.nodes[needed.node]) is None
        return needed.node in self._again

    def _find_ranges(self, node: Node) -> None:
        sources = [i.node for i in node.inputs if i.edge is Edge.ITEMS]
        kept = self.rest.kept[node.index]
        arrived = [sum(self._is_there(source, item) for source in sources) for item in range(len(kept))]
        if len(sources) > 1:
            self.rest.arrived[node.index] = arrived
        free = [
            item
            for item, chunk in enumerate(kept)
            if chunk < 0 and arrived[item] == len(sources) and self._expanded.get((node.index, item)) not in self._again
        ]
        self.rest.ranges[node.index] = [*_ranges(free)]


def _ranges(items: Iterable[int]) -> Iterable[tuple[int, int]]:
    start = count = 0
    for item in items:
        if count and item == start + count:
            count += 1
            continue
        if count:
            yield start, count
        start, count = item, 1
    if count:
        yield start, count
