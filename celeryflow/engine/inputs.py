"""The arguments of one node's items: holes filled with what its inputs stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celeryflow.engine.read import Length, Outcome, Reader, is_omitted
from celeryflow.errors import IntegrityError, WorkflowError
from celeryflow.graph.mapped import check_keys, check_lengths, mapped_literal
from celeryflow.graph.model import Edge
from celeryflow.graph.refs import Each, Hole, Path, fill, holes
from celeryflow.values import codec
from celeryflow.values.manifest import Call, Feed
from celeryflow.values.vault import OMITTED, UPSTREAM, VALUE, Pointer

_SCALARS = (int, float, bool, str, bytes, complex, type(None))


class Inputs:
    """Reads what a node's items need. Nothing that it gives out is shared between two items, scalars aside."""

    def __init__(self, reader: Reader, node: int, call: Call) -> None:
        self.reader, self.node, self.call = reader, node, call
        self._feeds = {feed.node: feed for feed in call.feeds if feed.edge is not Edge.LENGTH}
        self._scalars: dict[int, Any] = {}
        reader.prefetch([(n, 0) for n, feed in self._feeds.items() if feed.origin < 0])
        self._length: Length | None = None
        (template,) = codec.unpack(reader.vault.fetch(call.template))
        self._is_fixed = _is_immutable(template[:2])
        self._args, self._kwargs, self.holes = template

    def arguments(self, items: Sequence[Any] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of one call, with `items` in the places of the mapped ones."""

        def put(place: Any) -> Any:
            return items[place.number] if type(place) is Each else self.value(place)

        if not self._is_fixed:
            ((self._args, self._kwargs, _),) = codec.unpack(self.reader.vault.fetch(self.call.template))
        return fill(self._args, put), fill(self._kwargs, put)

    def filled(self, template: Any) -> Any:
        """A template with the values of its holes."""
        return fill(template, self.value)

    def value(self, hole: Hole) -> Any:
        """The value for a hole."""
        if hole.node in self._scalars:
            return _at(self._scalars[hole.node], hole.path)
        if hole.path:
            return _at(self.reader.part(self._feeds[hole.node], hole.path[0]), hole.path[1:])
        value = self.reader.value(self._feeds[hole.node])
        if isinstance(value, _SCALARS):
            self._scalars[hole.node] = value
        return value

    def chosen(self) -> Any:
        """Of a pick: the template of the option to pass on."""
        which, options = self._args
        return options[self.value(which) if isinstance(which, Hole) else which]

    def pointer(self, template: Any) -> Pointer | None:
        """Where a template's value is already, if it is no more than the value of a step."""
        if not isinstance(template, Hole) or template.path or self._feeds[template.node].origin >= 0:
            return None
        return self.reader.pointer(template.node)

    def lacking(self, template: Any) -> int | None:
        """The first node that a template needs and that did not succeed."""
        needed = sorted(holes(template))
        states = self.reader.states(needed)
        return next((node for node, (state, _) in zip(needed, states, strict=True) if state != "s"), None)

    def items(self, start: int, count: int) -> list[Outcome | tuple[Any, ...]]:
        """For each item the mapped values, or the Outcome of an input item that stands in its way."""
        columns = [self._column(number, start, count) for number in range(len(self.call.mapped))]
        return [_row(row) for row in zip(*columns, strict=True)]

    def plan(self) -> Length:
        """Read the mapped values and say how many items there are.

        Raises
        ------
        LengthMismatchError, WorkflowError
            If they differ in length or keys, or nothing can be mapped over.
        """
        lengths: list[tuple[str, int | None]] = []
        keys: list[list[Any]] = []
        items: list[Pointer | None] = []
        for number, mapped in enumerate(self.call.mapped):
            length, found, pointer = self._measure(number)
            lengths.append((mapped.name, length))
            keys += [found] if found is not None else []
            items.append(pointer)
        label = self.call.spec.label
        check_lengths(label, lengths)
        check_keys(label, keys)
        count = next((length for _, length in lengths if length is not None), None)
        if count is None:
            raise WorkflowError(
                f"{label}.map() got nothing to map over: {', '.join(name for name, _ in lengths)} is no list."
            )
        vault = self.reader.vault
        return Length(
            count=count, keys=vault.point(keys[0], f"the keys of {label}.map()") if keys else None, items=tuple(items)
        )

    def _measure(self, number: int) -> tuple[int | None, list[Any] | None, Pointer | None]:
        """Length, keys and stored items of a mapped argument; None each where it has none."""
        mapped, vault = self.call.mapped[number], self.reader.vault
        if mapped.items is not None:
            keys = codec.unpack(vault.fetch(mapped.keys)) if mapped.keys else None
            return codec.count_items(vault.fetch(mapped.items)), keys, None
        hole = self.holes[number]
        if mapped.is_map:
            feed = self._feeds[hole.node]
            return self.reader.size(feed), self.reader.keys(feed.origin), None
        found = mapped_literal(mapped.name, self.value(hole))
        if found is None or found.items is None:
            return None, None, None
        stored = vault.point(found.items, f"{mapped.name} of {self.call.step!r}")
        return len(found.items), None if found.keys is None else [*found.keys], stored

    def _column(self, number: int, start: int, count: int) -> Sequence[Outcome]:
        mapped, hole = self.call.mapped[number], self.holes[number]
        if mapped.is_map:
            feed = self._feeds[hole.node]
            return [_passed(self.reader, feed, outcome) for outcome in self.reader.outcomes(hole.node, start, count)]
        pointer = mapped.items or self._planned(number)
        if pointer is None:
            return [Outcome(VALUE, self.value(hole)) for _ in range(count)]
        values = codec.unpack_items(self.reader.vault.fetch(pointer), start, count)
        return [Outcome(VALUE, fill(value, self.value)) for value in values]

    def _planned(self, number: int) -> Pointer | None:
        self._length = self._length or self.reader.length(self.node)
        if self._length is None:
            raise IntegrityError(f"the length of {self.call.step!r} is missing.")
        return self._length.items[number]


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _passed(reader: Reader, feed: Feed, outcome: Outcome) -> Outcome:
    """An input item as its user gets it: a value, left out, or standing in the way."""
    if is_omitted(feed, outcome):
        return Outcome(OMITTED, feed.name)
    if outcome.kind in ("failure", UPSTREAM) and feed.on_error != "return":
        return Outcome(UPSTREAM, feed.name)
    return Outcome(VALUE, reader.pass_on(feed, outcome))


def _row(row: Sequence[Outcome]) -> Outcome | tuple[Any, ...]:
    bad = [outcome for outcome in row if outcome.kind != VALUE]
    return min(bad, key=lambda outcome: outcome.kind == OMITTED) if bad else tuple(outcome.value for outcome in row)


def _is_immutable(value: Any) -> bool:
    kind = type(value)
    if kind is tuple:
        return all(map(_is_immutable, value))
    if kind is dict:  # keyword arguments: the dict itself is filled anew each time
        return all(map(_is_immutable, value.values()))
    return kind in (Hole, Each) or kind in _SCALARS
