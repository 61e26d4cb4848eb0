"""What a part of a run has to do, and what each of it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from celeryflow.graph.model import Edge, Input, Node
from celeryflow.store.claims import Item
from celeryflow.store.generations import Rest


class Wiring:
    """Works out a Rest.

    Parameters
    ----------
    nodes : mapping
        Nodes by index.
    again : set of int
        Those to run, whole or in part; the others have ended.
    kept : dict of int to list of int
        Of maps whose length is known: for each item the first item of its chunk, -1 where it is to run.
    lengths : mapping
        Items of each map, None where that is not known.
    expanded : mapping
        By node and item, the last node of the part that it added.
    """

    def __init__(
        self,
        nodes: Mapping[int, Node],
        again: set[int],
        kept: dict[int, list[int]],
        lengths: Mapping[int, int | None],
        expanded: Mapping[Item, int],
    ) -> None:
        self.nodes, self._again, self._lengths, self._expanded = nodes, again, lengths, expanded
        self.rest = Rest(again=sorted(again), kept=kept)
        self.rest.lengths = {index: length for index in self.rest.again if (length := lengths.get(index)) is not None}

    def find(self) -> Rest:
        """Which nodes and items can begin, and what the others wait for."""
        for index in self.rest.again:
            self._wire(self.nodes[index])
        return self.rest

    def _is_there(self, index: int, item: int) -> bool:
        """Whether a map's item is kept: all of them are, of one that succeeded."""
        if index not in self._again:
            return item < (self._lengths[index] or 0)
        kept = self.rest.kept.get(index, [])
        return item < len(kept) and kept[item] >= 0

    def _wire(self, node: Node) -> None:
        waits = sum(self._waits_for(needed) for needed in node.inputs)
        if node.is_map:
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
            return self._lengths[needed.node] is None
        return needed.node in self._again

    def _find_ranges(self, node: Node) -> None:
        """Items that wait for nothing; of a map whose length is not read yet, those that do but for that."""
        sources = [i.node for i in node.inputs if i.edge is Edge.ITEMS]
        length = self._lengths[node.index]
        if length is None:
            length = max((self._lengths[source] or 0 for source in sources), default=0)
        kept = self.rest.kept.get(node.index) or [-1] * length
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
