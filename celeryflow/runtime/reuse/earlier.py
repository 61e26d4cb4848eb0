"""A run whose results may be taken over: where each is, by its key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from celeryflow.engine.link import Link
from celeryflow.errors import IntegrityError, UnknownRunError, did_you_mean
from celeryflow.graph.model import Node
from celeryflow.runtime.reuse.merkle import Material, Merkle
from celeryflow.runtime.reuse.results import Results, Stored
from celeryflow.values.environment import unpack_environment
from celeryflow.values.manifest import Call, open_manifest
from celeryflow.values.vault import CALL, PYTHON


class Place(NamedTuple):
    """Where a result is: run, node, item, and the first item of the record that holds it."""

    run: Earlier
    node: int
    item: int = 0
    chunk: int = 0

    @property
    def record(self) -> Stored:
        """The record that holds it."""
        return self.run.results.records[self.node, self.chunk]


class Earlier:
    """What there is of a run.

    Parameters
    ----------
    link : Link
        Where it is.
    run : str
        Its id.
    with_code : bool
        As of `Merkle`.
    only : set of int, optional
        Nodes to look at, with all that they need; by default all of them.

    Raises
    ------
    UnknownRunError
        If the server knows no such run.
    SignatureError
        If anything of it was changed or moved.
    """

    def __init__(self, link: Link, run: str, with_code: bool = True, only: set[int] | None = None) -> None:
        self.link, self.run, self.with_code = link, run, with_code
        record = link.store.meta(run).get("manifest")
        if record is None:
            raise UnknownRunError(f"no run {run!r} on this server.{did_you_mean(run, link.store.run_ids(), 'runs')}")
        self.manifest = open_manifest(record, run, link.vault)
        nodes = self.manifest.graph.nodes if only is None else with_needed(self.manifest.graph.nodes, only)
        # Code and values of another Python are not read.
        self.nodes: Sequence[Node] = nodes if self.manifest.python == PYTHON else ()

    @cached_property
    def merkle(self) -> Merkle:
        """The keys of its nodes."""
        calls, store = self._calls([node.index for node in self.nodes]), self.link.store
        code = store.get_codes([*{call.code for call in calls.values()}])
        versions = unpack_environment(store.get_code(self.manifest.environment), self.manifest.environment)
        return Merkle(Material(self.nodes, calls, code, versions), self.link.vault, self.with_code)

    @cached_property
    def results(self) -> Results:
        """What it has stored."""
        return Results(self.link, self.run, self.nodes)

    @cached_property
    def wholes(self) -> dict[bytes, Place]:
        """By key: every step, and every map with all of its items, that succeeded."""
        good = self.results.whole - self.results.tainted
        return {self.merkle.lookup[node.index]: Place(self, node.index) for node in self.nodes if node.index in good}

    @cached_property
    def plans(self) -> dict[bytes, Place]:
        """By key: every map whose length was read at run time."""
        known = {node for node, item in self.results.records if item == -1} - self.results.tainted
        planned = (node.index for node in self.nodes if node.index in known)
        return {self.merkle.lookup[index]: Place(self, index, -1, -1) for index in planned}

    @cached_property
    def items(self) -> dict[bytes, Place]:
        """By key: every item of a map that succeeded."""
        found: dict[bytes, Place] = {}
        for node in self.nodes:
            if node.is_map and node.index not in self.results.tainted:
                keys = self.merkle.items(node.index, len(self.results.chunks[node.index]))
                places = zip(keys, self.places(node.index), strict=True)
                found |= {key: place for key, place in places if place.chunk >= 0}
        return found

    def places(self, node: int) -> list[Place]:
        """Where each item of a map is."""
        return [Place(self, node, item, chunk) for item, chunk in enumerate(self.results.chunks[node])]

    def _calls(self, nodes: Sequence[int]) -> dict[int, Call]:
        found = {}
        for node, record in zip(nodes, self.link.store.specs(self.run, nodes), strict=True):
            if record is None:
                raise IntegrityError(f"run {self.run!r} has lost the record of step {node}.")
            found[node] = self.link.vault.open_as(CALL, Call, record, (self.run, node))
        return found


def with_needed(nodes: Sequence[Node], wanted: set[int]) -> list[Node]:
    """These nodes and all that they need, in order."""
    found = set(wanted)
    for node in reversed(nodes):
        if node.index in found:
            found |= {needed.node for needed in node.inputs}
    return [node for node in nodes if node.index in found]
