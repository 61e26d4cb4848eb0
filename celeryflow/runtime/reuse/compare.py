"""A step of a run beside the same one of the run that it took results from: what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from celeryflow.engine.read import Reader
from celeryflow.graph.model import Edge, Failure, Node
from celeryflow.graph.refs import Hole, fill
from celeryflow.runtime.reuse.earlier import Earlier
from celeryflow.runtime.reuse.keys import Hasher, Part, show
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.values.vault import FAILURE


class Reason(NamedTuple):
    """Something that made a step run: what, and where they can be shown, its values before and now."""

    what: str
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        if self.old != self.new:
            return f"{self.what}: {self.old or 'nothing'} → {self.new or 'nothing'}"
        return f"{self.what} changed" if self.old else self.what


class Comparison:
    """Two runs, and what is known of the steps of the later one."""

    def __init__(self, now: Earlier, before: Earlier, records: Mapping[int, StepRecord]) -> None:
        self.now, self.before, self.records = now, before, records
        self._nodes = {node.index: node for node in now.nodes}
        self._old = {node.name: node for node in before.nodes}

    def reasons(self, node: Node) -> list[Reason]:
        """What made a step run; of a step that it needs and that had to run, the change at the beginning of that."""
        if not self.before.nodes:
            return [Reason("Python", self.before.manifest.python, self.now.manifest.python)]
        own = [*self._own(node)]
        return [*own, *map(self._by_way_of, self._inputs(node))] or [self._last(node)]

    def _own(self, node: Node) -> Iterator[Reason]:
        old = self._old.get(node.name)
        if old is None:
            yield Reason(f"it is new: run {self.before.run} has no step of that name")
            return
        if self.now.merkle.with_code:
            yield from _of_code(_differences(self._code(self.now, node), self._code(self.before, old)))
        yield from _differences(self._arguments(self.now, node), self._arguments(self.before, old))
        yield from _differences(_shape(node), _shape(old))
        yield from self._items(node, old)
        yield from self._failure(old)

    def _by_way_of(self, node: Node) -> Reason:
        """Of a step that had to run, why the first of those had to which it needed."""
        way, seen = node, {node.index}
        while not (own := [*self._own(node)]):
            further = [needed for needed in self._inputs(node) if needed.index not in seen]
            if not further:
                return Reason(f"step {way.name!r}, which it needs, ran again")
            node = further[0]
            seen.add(node.index)
        where = f"step {way.name!r}, which it needs" + (f", by way of {node.name!r}" if node is not way else "")
        return own[0]._replace(what=f"{where}: {own[0].what}")

    def _inputs(self, node: Node) -> list[Node]:
        """What it needs and was not taken over whole."""
        needed = (i.node for i in node.inputs if i.edge is not Edge.LENGTH)
        ran = (i for i in dict.fromkeys(needed) if not self.records[i].is_reused and not self.records[i].is_left_out)
        return [self._nodes[i] for i in ran]

    def _code(self, of: Earlier, node: Node) -> dict[str, Part]:
        """Parts of a step's function, and versions of the packages that it uses."""
        found = of.merkle.fingerprint(node.index)
        packages = of.merkle.packages[of.merkle.material.calls[node.index].code]
        versions = {f"version of {name}": Part(text.encode(), text) for name, text in packages.items()}
        return found.parts | versions or {"code": Part(found.digest, is_shown=False)}

    def _arguments(self, of: Earlier, node: Node) -> dict[str, Part]:
        names = {n.index: n.name.encode() for n in of.nodes}
        hasher = Hasher(names, of.with_code)

        def part(value: Any) -> Part:
            shown = fill(value, lambda place: f"step {names[place.node].decode()}" if type(place) is Hole else "…")
            return Part(hasher.digest(value), shown)

        args, kwargs, _ = of.merkle.template(node.index)
        named = {**{f"argument {at + 1}": value for at, value in enumerate(args)}}
        named |= {f"argument {name!r}": value for name, value in kwargs.items()}
        return {name: part(value) for name, value in named.items()}

    def _items(self, node: Node, old: Node) -> Iterator[Reason]:
        if not node.is_map or self.now.merkle.base[node.index] != self.before.merkle.base.get(old.index):
            return
        length = self.records[node.index].length or 0
        keys = self.now.merkle.items(node.index, length)
        known = {*self.before.merkle.items(old.index, len(self.before.results.chunks[old.index]))}
        fresh = sum(key not in known and key not in self.before.items for key in keys)
        failed = sum(key in known and key not in self.before.items for key in keys)
        if fresh:
            yield Reason(f"{fresh:,} of {length:,} items are new")
        if failed:
            yield Reason(f"{failed:,} of {length:,} items had no result before")

    def _failure(self, old: Node) -> Iterator[Reason]:
        if old.is_map or (old.index, 0) in self.before.results.records:
            return
        link = self.before.link
        found = Reader(link.store, link.vault, self.before.run).outcome(old.index)
        if found.kind == FAILURE and isinstance(found.value, Failure):
            yield Reason(f"it failed before: {found.value.error}: {found.value.message}"[:300])

    def _last(self, node: Node) -> Reason:
        """Where nothing differs: there was no result to take."""
        old = self._old[node.name]
        if old.index in self.before.results.tainted:
            return Reason("what it was made from lacked something that had failed")
        if old.index not in self.before.results.whole:
            return Reason("it had no result before")
        return Reason("its code cannot be compared")


def _of_code(reasons: Iterator[Reason]) -> Iterator[Reason]:
    """Without constants and names that changed because the code around them did."""
    found = [*reasons]
    owners = {reason.what.removeprefix("code of ").removesuffix(" changed") for reason in found if _is_code(reason)}
    for reason in found:
        is_inside = any(reason.what.startswith(f"constant of {o}") or f" in {o} " in reason.what for o in owners)
        if not is_inside:
            yield reason


def _is_code(reason: Reason) -> bool:
    return reason.what.startswith("code of ")


def _shape(node: Node) -> dict[str, Part]:
    options = {"outputs": node.spec.outputs, "on_error": node.on_error.value, "kind": node.kind.value}
    return {name: Part(str(value).encode(), value) for name, value in options.items()}


def _differences(now: Mapping[str, Part], before: Mapping[str, Part]) -> Iterator[Reason]:
    """The parts that are not the same, in the order of now."""
    for name in dict.fromkeys([*now, *before]):
        mine, theirs = now.get(name), before.get(name)
        if mine is None or theirs is None or mine.digest != theirs.digest:
            what = name.partition("#")[0]
            if all(part is None or part.is_shown for part in (mine, theirs)):
                yield Reason(
                    what, "" if theirs is None else show(theirs.value), "" if mine is None else show(mine.value)
                )
            else:
                yield Reason(f"{what} changed")
