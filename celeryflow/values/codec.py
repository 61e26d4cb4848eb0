"""Python objects to bytes and back: items packed so that one can be read without the others.

Packed bytes are ``header length (4) | header | blocks and buffers``; the header is msgpack
``[items, items a block, [size, or [size, buffer sizes …], a block]]``. What is plain data (see `plain`) is no pickle:
its block has a size alone. All else is pickled, and its buffers (NumPy arrays and what is built on them) stand out of
the pickles (protocol 5), aligned, so that reading them from a mapped file copies nothing.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cloudpickle
import msgspec

from celeryflow.errors import RegisteredOnlyError, SerializationError
from celeryflow.values import plain

ALIGNMENT = 64
LARGE_BUFFER_BYTES = 16 * 1024
BLOCK_BYTES = 4096

_SCALARS = plain.SCALARS | {bytes, complex}

Buffer = bytes | bytearray | memoryview

TAKES = (
    "takes None, bool, int (of 64 bits), float, str, list, tuple and dict (with str keys) alone, as it was started "
    "with --registered-only"
)

_opens_pickles = True


def refuse_pickles() -> None:
    """From now on this process opens no pickle and writes none."""
    global _opens_pickles
    _opens_pickles = False


def opens_pickles() -> bool:
    """Whether this process does."""
    return _opens_pickles


def check_pickles(what: str) -> None:
    """See that this process may open the pickle of `what`.

    Raises
    ------
    RegisteredOnlyError
        If it opens none.
    """
    if not _opens_pickles:
        raise RegisteredOnlyError(f"{what} is pickled, and was not opened: this worker {TAKES}.")


def pack(items: Sequence[Any], what: str = "value") -> list[Buffer]:
    """Parts whose concatenation holds `items`.

    Raises
    ------
    SerializationError
        If an item cannot be pickled; the message names `what`.
    RegisteredOnlyError
        If it would have to be, and this process writes no pickles.
    """
    block = _block_size(items)
    blocks = [_dump(list(items[i : i + block]), what) for i in range(0, len(items), block)]
    sizes = [len(parts) if isinstance(parts, bytes) else [*map(len, parts)] for parts in blocks]
    header = msgspec.msgpack.encode([len(items), block, sizes])
    packed: list[Buffer] = [struct.pack("<I", len(header)), header]
    size = 4 + len(header)
    for parts in blocks:
        for number, part in enumerate([parts] if isinstance(parts, bytes) else parts):
            gap = -size % ALIGNMENT if number else 0
            packed += [bytes(gap), part] if gap else [part]
            size += gap + len(part)
    return packed


def unpack(data: Buffer, load: Callable[..., Any] = pickle.loads) -> list[Any]:
    """All items of packed bytes; `load` opens what is pickled.

    Raises
    ------
    RegisteredOnlyError
        If something is pickled, and this process opens no pickles.
    """
    return [item for block in _blocks(data, 0, None, load) for item in block]


def unpack_items(data: Buffer, start: int, count: int) -> list[Any]:
    """Items `start` to `start + count` of packed bytes; only their blocks are read."""
    _, block, _ = _header(data)
    first = start // block
    items = [item for found in _blocks(data, first, (start + count - 1) // block + 1) for item in found]
    return items[start - first * block :][:count]


def count_items(data: Buffer) -> int:
    """How many items packed bytes hold."""
    return int(_header(data)[0])


def dumps(value: Any, what: str) -> bytes:
    """`value` pickled by value where its module cannot be imported elsewhere.

    Raises
    ------
    SerializationError
        If it cannot be pickled.
    """
    try:
        if type(value) in _SCALARS:
            return pickle.dumps(value, 5)
        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        raise _cannot(what, value, error) from error


def loads(data: Buffer) -> Any:
    """The object of a pickle. Only verified bytes come here."""
    check_pickles("an object")
    return pickle.loads(data)  # noqa: S301


def loads_apart(data: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """The object of a pickle, with classes of its own: those of this process are neither taken for it nor changed."""
    return _Apart(io.BytesIO(data), buffers=buffers).load()


class _Apart(pickle.Unpickler):
    """cloudpickle gives classes that travel by value an id, and takes the one that has it already."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return partial(_untracked, found) if name in ("_make_skeleton_class", "_make_skeleton_enum") else found


def _untracked(make: Callable[..., Any], *arguments: Any) -> Any:
    *first, _, extra = arguments
    return make(*first, None, extra)


def _dump(items: list[Any], what: str) -> bytes | list[Buffer]:
    """Plain data, or else a pickle and its buffers."""
    data = plain.encode(items)
    if data is not None:
        return data
    if not _opens_pickles:
        raise RegisteredOnlyError(
            f"{what} is {_kinds(items)}, and this worker writes no pickles: it {TAKES}. Return such values, or the "
            "path of a file with the rest."
        )
    buffers: list[Buffer] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE_BUFFER_BYTES:
            return True
        buffers.append(raw)
        return False

    try:
        if set(map(type, items)) <= _SCALARS:
            return [pickle.dumps(items, 5)]
        return [cloudpickle.dumps(items, protocol=5, buffer_callback=keep_inside), *buffers]
    except Exception as error:
        raise _cannot(what, items[0] if len(items) == 1 else items, error) from error


def _kinds(items: list[Any]) -> str:
    """Of what types items are that are not plain."""
    found = sorted({type(item).__name__ for item in items if plain.encode([item]) is None})
    return f"of type {', '.join(found)}, or has something in it of another type or in two places"


def _cannot(what: str, value: Any, error: Exception) -> SerializationError:
    return SerializationError(
        f"{what} cannot be sent to a worker: {type(value).__name__} does not pickle ({type(error).__name__}: {error}). "
        "Pass what it is made from, such as a path or a URL, and open it inside the step."
    )


def _block_size(items: Sequence[Any]) -> int:
    """Items a block: some 4 kB, judged by the first item."""
    if len(items) < 2:
        return 1
    kind = type(items[0])
    if kind not in _SCALARS:
        return 1
    size = len(items[0]) if kind in (str, bytes) else 8
    return max(1, BLOCK_BYTES // max(size, 8))


def _header(data: Buffer) -> list[Any]:
    (size,) = struct.unpack_from("<I", data)
    header: list[Any] = msgspec.msgpack.decode(memoryview(data)[4 : 4 + size])
    return header


def _blocks(data: Buffer, first: int, last: int | None, load: Callable[..., Any] = pickle.loads) -> Iterator[list[Any]]:
    at = 4 + struct.unpack_from("<I", data)[0]
    blocks = _header(data)[2][:last]
    # Buffers of a mapped file may be written to; those within a record need memory of their own.
    has_buffers = any(not isinstance(sizes, int) and len(sizes) > 1 for sizes in blocks)
    view = memoryview(bytearray(data) if isinstance(data, bytes) and has_buffers else data)
    for index, sizes in enumerate(blocks):
        parts = []
        for number, size in enumerate([sizes] if isinstance(sizes, int) else sizes):
            at += -at % ALIGNMENT if number else 0
            parts.append(view[at : at + size])
            at += size
        if index < first:
            continue
        if isinstance(sizes, int):
            yield plain.decode(parts[0])
        else:
            check_pickles("an argument or a result that it needs")
            yield load(parts[0], buffers=parts[1:])
