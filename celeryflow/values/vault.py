"""Stored values: signed records that hold their bytes, or name the blob that does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from celeryflow.config import INLINE_LIMIT_BYTES
from celeryflow.errors import IntegrityError, ValueTooLargeError, VersionMismatchError
from celeryflow.graph.model import Record
from celeryflow.values import codec
from celeryflow.values.blobs.place import Blobs
from celeryflow.values.envelope import Binding, Keyring
from celeryflow.values.refusals import refusal

T = TypeVar("T")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

VALUE, FAILURE, OMITTED, UPSTREAM, LENGTH, GATHERED, EXPANSION, CALL, MANIFEST, PART = (
    "value", "failure", "omitted", "upstream", "length", "gathered", "expansion", "call", "manifest", "part",
)  # fmt: skip
"""Kinds of records. ``upstream`` and ``omitted`` stand for items that did not run: an input failed, or was left out."""


class Pointer(Record, frozen=True):
    """Where packed items are: here (`inline`) or in a blob.

    `first` and `count` say which of them are meant; a count of 0 is all from there on.
    """

    size: int
    digest: str = ""
    inline: bytes = b""
    python: str = PYTHON
    attempt: int = 1
    generation: int = 1
    first: int = 0
    count: int = 0


class Vault:
    """Writes and reads values: signs, verifies, chooses between record and blob."""

    def __init__(self, keyring: Keyring, blobs: Blobs, limit_bytes: int = 2**30) -> None:
        self.keyring = keyring
        self.blobs = blobs
        self.limit_bytes = limit_bytes

    def point(self, items: Sequence[Any], what: str, attempt: int = 1, generation: int = 1) -> Pointer:
        """Store items; `what` names them in errors.

        Raises
        ------
        SerializationError, ValueTooLargeError, RegisteredOnlyError
            Nothing is stored then.
        """
        return self.keep(codec.pack(items, what), what, attempt, generation)

    def keep(self, parts: Sequence[codec.Buffer], what: str, attempt: int = 1, generation: int = 1) -> Pointer:
        """Store bytes; `what` names them in errors.

        Raises
        ------
        ValueTooLargeError
            Nothing is stored then.
        """
        size = sum(len(part) for part in parts)
        if size <= INLINE_LIMIT_BYTES:
            return Pointer(size=size, inline=b"".join(parts), attempt=attempt, generation=generation)
        if size > self.limit_bytes:
            raise ValueTooLargeError(
                f"{what} has {_bytes(size)}; the limit is {_bytes(self.limit_bytes)}. "
                "Pass a path instead, or raise blob_limit_bytes in cf.connect()."
            )
        return Pointer(size=size, digest=self.blobs.put(parts), attempt=attempt, generation=generation)

    def fetch(self, pointer: Pointer) -> codec.Buffer:
        """The bytes of a verified pointer."""
        if pointer.python != PYTHON:
            message = f"a value was made by Python {pointer.python} and cannot be read by {PYTHON}."
            raise refusal(message, VersionMismatchError)
        return self.blobs.get(pointer.digest, pointer.size) if pointer.digest else pointer.inline

    def seal(self, kind: str, binding: Binding, record: Any) -> bytes:
        """Signed bytes of a record."""
        return self.keyring.seal(kind, binding, msgspec.msgpack.encode(record))

    def open(self, record: bytes, binding: Binding) -> tuple[str, bytes]:
        """Kind and msgpack body of signed bytes."""
        return self.keyring.open(record, binding)

    def open_as(self, kind: str, cls: type[T], record: bytes, binding: Binding) -> T:
        """The record of that kind."""
        found, body = self.open(record, binding)
        if found != kind:
            raise refusal(f"a {found} record stands where a {kind} record belongs. It was not read.")
        try:
            return msgspec.msgpack.decode(body, type=cls)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"a signed {kind} record cannot be read: {error}. Another version of celeryflow has written it."
            ) from None


def _bytes(size: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.4g} GiB"
