"""Plain data as MessagePack: what JSON can say, and tuples. It is read without executing anything.

``None``, ``bool``, ``int`` of 64 bits, ``float``, ``str``, ``list``, ``tuple`` and ``dict`` with ``str`` keys, each of
exactly that type, so that what is read is what was written. In stored arguments, the places of inputs as well.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from celeryflow.graph.refs import Each, Hole

SCALARS = frozenset({int, float, bool, str, type(None)})
DEEPEST = 100

_TUPLE, _HOLE, _EACH = 1, 2, 3
_encode = msgspec.msgpack.Encoder().encode


class _NotPlain(Exception):
    """Something is of another type, or in two places of the same value."""


def encode(items: list[Any]) -> bytes | None:
    """Bytes of a list of plain data; None where something in it is not."""
    try:
        return _encode(items if set(map(type, items)) <= SCALARS else [_ready(item, set(), 1) for item in items])
    except (_NotPlain, OverflowError, UnicodeEncodeError):  # larger integers, lone surrogates
        return None


def _ready(value: Any, seen: set[int], depth: int) -> Any:
    """`value` as the encoder takes it; `seen` are lists and dicts above and beside, none of which may come again."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if id(value) in seen or depth > DEEPEST:
        raise _NotPlain
    if kind is list:
        seen.add(id(value))
        return value if _is_flat(value) or _is_table(value, seen) else [_ready(item, seen, depth + 1) for item in value]
    if kind is dict:
        seen.add(id(value))
        if not set(map(type, value)) <= {str}:
            raise _NotPlain
        return value if _is_flat(value.values()) else {k: _ready(item, seen, depth + 1) for k, item in value.items()}
    if kind is tuple or kind is Hole:
        return Ext(_TUPLE if kind is tuple else _HOLE, _encode([_ready(item, seen, depth + 1) for item in value]))
    if kind is Each:
        return Ext(_EACH, _encode(value.number))
    raise _NotPlain


def _is_flat(values: Any) -> bool:
    return set(map(type, values)) <= SCALARS


def _is_table(rows: list[Any], seen: set[int]) -> bool:
    """Whether all are lists or all dicts of scalars, none of them twice: the same as row by row, five times as fast."""
    kinds, places = set(map(type, rows)), set(map(id, rows))
    if len(places) < len(rows) or not seen.isdisjoint(places):
        return False
    is_table = (kinds == {list} and _is_flat(chain.from_iterable(rows))) or (
        kinds == {dict}
        and set(map(type, chain.from_iterable(rows))) <= {str}
        and _is_flat(chain.from_iterable(map(dict.values, rows)))
    )
    if is_table:
        seen |= places
    return is_table


def _object(code: int, data: memoryview) -> Any:
    found = _decode(data)
    if code == _TUPLE:
        return tuple(found)
    if code == _HOLE:
        return Hole(*found)
    if code == _EACH:
        return Each(found)
    raise ValueError(f"there is no plain data of kind {code}")


decode = _decode = msgspec.msgpack.Decoder(ext_hook=_object).decode
"""What was encoded."""
