"""Which results of earlier runs stand for nodes and items of a new graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from celeryflow.engine.read import Length
from celeryflow.graph.model import Edge, Input, Node, Role
from celeryflow.runtime.reuse.earlier import Earlier, Place
from celeryflow.runtime.reuse.merkle import Merkle
from celeryflow.values import codec
from celeryflow.values.vault import Pointer


@dataclass
class Match:
    """What is there for a new graph.

    Attributes
    ----------
    steps : dict of int to Place
        Where the results of plain steps are.
    items : dict of int to list of (Place or None)
        Of maps whose length is known: where each item is, None where it is to run.
    plans : dict of int to Place
        Where the lengths of maps are that were read at run time.
    lengths : dict of int to (int or None)
        Items of each map, as far as known.
    choices : dict of int to int
        What was decided.
    left_out : dict of int to (int, bool)
        Nodes that no branch chose: the node that says so, and whether that is the decision itself.
    """

    steps: dict[int, Place] = field(default_factory=dict)
    items: dict[int, list[Place | None]] = field(default_factory=dict)
    plans: dict[int, Place] = field(default_factory=dict)
    lengths: dict[int, int | None] = field(default_factory=dict)
    choices: dict[int, int] = field(default_factory=dict)
    left_out: dict[int, tuple[int, bool]] = field(default_factory=dict)

    def is_whole(self, node: int) -> bool:
        """Whether nothing of a node is to run."""
        if node in self.steps or node in self.left_out:
            return True
        return node in self.items and None not in self.items[node]

    def __bool__(self) -> bool:
        return bool(self.steps or self.plans or any(any(places) for places in self.items.values()))


Keys = Mapping[bool, Merkle]
"""Keys of the new graph, by whether code counts in them."""


def match(new: Keys, candidates: Callable[[Node], Iterable[Earlier]]) -> Match:
    """What the candidates of each node have for it, the first before the others."""
    found = Match()
    nodes = next(iter(new.values())).nodes
    for node in nodes.values():
        if node.is_map:
            is_like_source = node.length is None and node.source is not None
            found.lengths[node.index] = found.lengths.get(node.source or 0) if is_like_source else node.length
        cause = next((i for i in node.inputs if _is_closed(i, found)), None)
        if cause is not None:
            found.left_out[node.index] = cause.node, cause.edge is Edge.CHOICE and cause.node in found.choices
        elif node.is_map:
            _match_map(new, node, candidates(node), found)
        else:
            _match_step(new, node, candidates(node), found)
    return found


def _is_closed(needed: Input, found: Match) -> bool:
    """Whether a branch that was decided leaves a node out."""
    if needed.edge is Edge.CHOICE and needed.node in found.choices:
        return found.choices[needed.node] != needed.choice
    return needed.edge is not Edge.ENDED and needed.node in found.left_out


def _match_step(new: Keys, node: Node, runs: Iterable[Earlier], found: Match) -> None:
    place = _first((run.wholes, new[run.with_code].lookup[node.index]) for run in runs)
    if place is not None:
        found.steps[node.index] = place
        if node.role is Role.DECIDE:
            found.choices[node.index] = _number(place)


def _match_map(new: Keys, node: Node, runs: Iterable[Earlier], found: Match) -> None:
    index = node.index
    if node.is_planned:
        plan = _first((run.plans, new[run.with_code].lookup[index]) for run in runs)
        if plan is not None:
            found.plans[index] = plan
            found.lengths[index] = msgspec.msgpack.decode(plan.record.body, type=Length).count
    length = found.lengths[index]
    if length is None:
        return
    whole = _first((run.wholes, new[run.with_code].lookup[index]) for run in runs)
    if whole is not None:
        found.items[index] = [*whole.run.places(whole.node)]
    elif length:

        def place(item: int) -> Place | None:
            return _first((run.items, new[run.with_code].items(index, length)[item]) for run in runs)

        found.items[index] = [place(item) for item in range(length)]


def _first(looked_up: Iterable[tuple[Mapping[bytes, Place], bytes]]) -> Place | None:
    """The first place that is there for its key."""
    return next((places[key] for places, key in looked_up if key in places), None)


def _number(place: Place) -> int:
    """What a decision came to."""
    pointer = msgspec.msgpack.decode(place.record.body, type=Pointer)
    (found,) = codec.unpack(place.run.link.vault.fetch(pointer))
    return int(found)
