"""What a map goes through: which values are gone through, and whether those of several arguments fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflow.errors import ArgumentError, LengthMismatchError
from celeryflow.graph.limits import check_items
from celeryflow.graph.refs import Hole


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """One mapped argument: literal `items` (which may hold Holes), or an input node of a map or of a value."""

    name: str
    items: Sequence[Any] | None = None
    keys: tuple[Any, ...] | None = None
    hole: Hole | None = None
    is_map: bool = False

    @property
    def length(self) -> int | None:
        """Number of items, where they are known now."""
        return None if self.items is None else len(self.items)


def mapped_literal(name: str, value: Any) -> Mapped | None:
    """How `map` takes a value: its items, or None where it is passed whole.

    Lists, tuples, ranges, arrays, Series and the like are gone through; dicts by their values; everything else is a
    constant.

    Raises
    ------
    ArgumentError
        For a DataFrame, a set or an iterator, whose items are not plain.
    """
    kind = type(value)
    if isinstance(value, dict):
        return Mapped(name=name, items=list(value.values()), keys=tuple(value))
    if isinstance(value, (list, tuple, range)) and not hasattr(value, "_fields"):
        return Mapped(name=name, items=value)
    if kind.__name__ == "DataFrame":
        raise ArgumentError(
            f'{name} of map() is a DataFrame. Pass its rows as df.to_dict("records"), or cf.unmapped(df) for all of it.'
        )
    if isinstance(value, (set, frozenset, Iterator)):
        raise ArgumentError(f"{name} of map() is a {kind.__name__}, whose order or length is open. Pass list(…) of it.")
    if getattr(value, "ndim", 0) > 0 and hasattr(value, "__len__"):
        return Mapped(name=name, items=list(value))
    return None


def check_lengths(label: str, lengths: Sequence[tuple[str, int | None]]) -> None:
    """See that what is mapped together has one length, which is not too large.

    Raises
    ------
    LengthMismatchError, LimitError
        Naming both, or the length.
    """
    known = [(name, length) for name, length in lengths if length is not None]
    check_items(label, max((length for _, length in known), default=0))
    for name, length in known[1:]:
        if length != known[0][1]:
            raise LengthMismatchError(
                f"{label}.map() got {known[0][1]} items in {known[0][0]} and {length} in {name}. "
                "Mapped values must be equally long; wrap what every call needs whole in cf.unmapped(…)."
            )


def check_keys(label: str, keys: Sequence[Sequence[Any]]) -> None:
    """See that dicts that are mapped together have the same keys, in the same order.

    Raises
    ------
    LengthMismatchError
        Showing two that differ.
    """
    for other in keys[1:]:
        if list(other) != list(keys[0]):
            raise LengthMismatchError(
                f"{label}.map() got dicts with different keys: {list(keys[0])!r:.200} and {list(other)!r:.200}. "
                "Mapped dicts need the same keys in the same order."
            )
