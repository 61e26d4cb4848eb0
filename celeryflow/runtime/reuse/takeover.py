"""A new run that begins with results of earlier ones: staged beside its graph, and published with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celeryflow.engine.link import Link
from celeryflow.errors import IntegrityError, UnknownRunError
from celeryflow.graph.model import Node
from celeryflow.runtime.reuse.earlier import Earlier, with_needed
from celeryflow.runtime.reuse.match import Match, match
from celeryflow.runtime.reuse.merkle import Material, Merkle
from celeryflow.runtime.reuse.mint import Minter, Piece, pieces
from celeryflow.runtime.wiring import Wiring
from celeryflow.store import cached
from celeryflow.store.generations import Rest
from celeryflow.store.taken import TakenEvent, stage_taken
from celeryflow.values.environment import unpack_environment
from celeryflow.values.manifest import Call, Sealed
from celeryflow.values.vault import CALL


@dataclass
class Takeover:
    """What was staged beside a graph: further parts of the run, and facts to publish it with.

    `cached` has the steps with ``cache=True`` by their keys.
    """

    parts: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    cached: dict[bytes, list[int]] = field(default_factory=dict)


def take_over(link: Link, run: str, sealed: Sealed, base: str, rerun: str) -> Takeover:
    """Stage what a graph that was staged as `run` finds in run `base`, and in others of steps with ``cache=True``.

    Raises
    ------
    UnknownRunError
        If the server has no run `base`.
    SignatureError
        If anything of run `base` was changed or moved. Nothing is taken then.
    """
    wanted = {node.index for node in sealed.nodes if node.spec.cache}
    if not base and not wanted:
        return Takeover()
    material = _material(link, run, sealed, sealed.nodes if base else with_needed(sealed.nodes, wanted))
    before = [Earlier(link, base, with_code=rerun == "changed")] if base else []
    new = {with_code: Merkle(material, link.vault, with_code) for with_code in {True, *(e.with_code for e in before)}}
    keys: dict[bytes, list[int]] = {}
    for node in sorted(wanted):
        keys.setdefault(new[True].base.get(node, new[True].whole[node]), []).append(node)
    others = _CachedRuns(link, keys)
    found = match(new, lambda node: _Candidates(before, others, node.index))
    if not found:
        return Takeover(cached=keys)
    minter, kept, events = _mint(link, run, found)
    rest = _rest({node.index: node for node in sealed.nodes}, found, kept)
    parts, facts = stage_taken(link.store, run, sealed.root, rest, minter.records, events)
    return Takeover(parts, facts, keys)


def _material(link: Link, run: str, sealed: Sealed, nodes: Sequence[Node]) -> Material:
    records = {node.index: record for node, record in zip(sealed.nodes, sealed.specs, strict=True)}
    calls = {n.index: link.vault.open_as(CALL, Call, records[n.index], (run, n.index)) for n in nodes}
    versions = unpack_environment(sealed.code[sealed.environment], sealed.environment)
    return Material(nodes, calls, sealed.code, versions)


class _CachedRuns:
    """Runs that may have results of steps with ``cache=True``. Who they are is a hint: their records decide."""

    def __init__(self, link: Link, keys: Mapping[bytes, Sequence[int]]) -> None:
        self.link, hints = link, cached.look_up(link.store, [*keys])
        self._runs = {node: [hint.run for hint in hints[key]] for key, nodes in keys.items() for node in nodes}
        self._nodes: dict[str, set[int]] = {}
        for hint in (hint for found in hints.values() for hint in found):
            self._nodes.setdefault(hint.run, set()).update(hint.nodes)
        self._opened: dict[str, Earlier | None] = {}

    def of(self, node: int) -> Iterator[Earlier]:
        """Those for a node of the new graph, the newest first, each read when it is asked for."""
        for run in self._runs.get(node, ()):
            if run not in self._opened:
                self._opened[run] = self._open(run)
            if (earlier := self._opened[run]) is not None:
                yield earlier

    def _open(self, run: str) -> Earlier | None:
        """The run; None where it has expired, or cannot be verified."""
        try:
            earlier = Earlier(self.link, run, only=self._nodes[run])
            return earlier if earlier.wholes or earlier.items else None
        except (UnknownRunError, IntegrityError):
            return None


class _Candidates:
    """Where to look for a node's results, as often as it is gone through."""

    def __init__(self, before: Sequence[Earlier], others: _CachedRuns, node: int) -> None:
        self.before, self.others, self.node = before, others, node

    def __iter__(self) -> Iterator[Earlier]:
        yield from self.before
        yield from self.others.of(self.node)


def _mint(link: Link, run: str, found: Match) -> tuple[Minter, dict[int, list[int]], list[TakenEvent]]:
    """Records and events of what was found; of maps, the first item of the record of each item."""
    minter, kept, events = Minter(link.vault, run), dict[int, list[int]](), list[TakenEvent]()
    for index, place in found.steps.items():
        minter.whole(index, 0, place.record)
        events.append(TakenEvent("reused", index, output_bytes=place.record.size, origin=place.run.run))
    for index, plan in found.plans.items():
        minter.whole(index, -1, plan.record)
        events.append(TakenEvent("length", index, count=found.lengths[index] or 0))
    for index, places in found.items.items():
        mine = [*pieces(places)]
        minter.items(index, mine)
        kept[index] = _chunks(mine, len(places))
        events += _events(index, mine)
        events += [TakenEvent("settled", index, status="success")] if found.is_whole(index) else []
    for index, (cause, is_decision) in found.left_out.items():
        kind, count = "branch" if is_decision else "upstream", found.lengths.get(index) or 1
        events.append(TakenEvent("skipped", index, count=count, kind=kind, cause=cause))
    return minter, kept, events


def _rest(nodes: Mapping[int, Node], found: Match, kept: dict[int, list[int]]) -> Rest:
    """What is left to do."""
    again = {index for index in nodes if not found.is_whole(index)}
    lengths = {index: node.length for index, node in nodes.items() if node.is_map} | found.lengths
    for index in again:
        if length := lengths.get(index):
            kept.setdefault(index, [-1] * length)
    rest = Wiring(nodes, again, kept, lengths, {}).find()
    rest.ended = {index: b"k" if index in found.left_out else b"s" for index in nodes if index not in again}
    rest.lengths = {index: length for index, length in lengths.items() if length is not None}
    rest.choices = found.choices
    return rest


def _chunks(found: Sequence[Piece], length: int) -> list[int]:
    """The first item of the record of each item, -1 where it is to run."""
    chunks = [-1] * length
    for piece in found:
        chunks[piece.start : piece.start + piece.size] = [piece.start] * piece.size
    return chunks


def _events(node: int, found: Sequence[Piece]) -> Iterator[TakenEvent]:
    """One for each range of items that lie side by side and come from one run."""
    start = count = size = 0
    run, last = "", None
    for piece in found:
        origin = piece.place.run.run
        if count and piece.start == start + count and origin == run:
            count += piece.size
        else:
            if count:
                yield TakenEvent("reused", node, start, count, size, run)
            start, count, size, run = piece.start, piece.size, 0, origin
        record = piece.place.node, piece.place.chunk
        size, last = size + (piece.place.record.size if record != last else 0), record
    if count:
        yield TakenEvent("reused", node, start, count, size, run)
