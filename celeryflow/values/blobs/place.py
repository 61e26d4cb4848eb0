"""What a place for large values does, and what all of them have in common."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from celeryflow.errors import CeleryflowError, IntegrityError
from celeryflow.values.codec import Buffer
from celeryflow.values.refusals import refusal

CHUNK_BYTES = 16 * 2**20
"""How much of a value is held in memory on its way to or from a place that is no folder."""

_DIGEST = re.compile("[0-9a-f]{64}")


class Blobs(Protocol):
    """Where the large values of a deployment are, each under its digest: whole, or not at all.

    What nobody needs is collected by the time that a value was last put. Whoever is about to name one says so first, by
    `put` or `touch`; times are by the clock of the place, `now`, in seconds since 1970.
    """

    place: str
    """Where it is, in words that are the same in every process of the deployment; without secrets."""

    def put(self, parts: Sequence[Buffer]) -> str:
        """Store the concatenated parts; their digest.

        Raises
        ------
        StorageError
            If they cannot be written. Nothing is left under the digest then.
        """

    def touch(self, digest: str, size: int) -> bool:
        """Say that a blob of that size in bytes is about to be named by something; whether it is there."""

    def get(self, digest: str, size: int | None = None) -> Buffer:
        """The bytes of a blob, verified; writing to them changes nobody else's.

        Raises
        ------
        IntegrityError
            If the blob is gone.
        SignatureError
            If it is not what its name and its size in bytes say.
        StorageError
            If the place cannot be read.
        """

    def now(self) -> float:
        """The time there."""

    def mark(self, deployment: str) -> None:
        """Say that a deployment keeps values here, which shows that it can.

        Raises
        ------
        StorageError
            If it cannot.
        """

    def users(self) -> set[str]:
        """The deployments that say so."""

    def unused_since(self, before: float) -> dict[str, int]:
        """Blobs that were not put since a time, and their sizes in bytes."""

    def discard(self, digest: str, before: float) -> bool:
        """Delete a blob, unless somebody has put it since; whether it was deleted."""

    def sweep(self, before: float) -> None:
        """Delete what was left by processes that died while they wrote."""

    def close(self) -> None:
        """Give connections back."""


def digest_of(parts: Sequence[Buffer]) -> str:
    """The SHA-256 of the concatenated parts, in hex."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def is_digest(name: str) -> bool:
    """Whether a name can be that of a blob: what else lies in the same place is somebody else's."""
    return _DIGEST.fullmatch(name) is not None


def checked(digest: str) -> str:
    """A digest, before it becomes part of a path or a key.

    Raises
    ------
    IntegrityError
        If it is none.
    """
    if not is_digest(digest):
        raise IntegrityError(f"{digest[:80]!r} is not the name of a blob.")
    return digest


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of all parts."""
    return sum(map(len, parts))


def in_chunks(parts: Sequence[Buffer], most: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The concatenated parts in pieces of `most` bytes, the last one shorter; one piece is copied at a time."""
    chunk = bytearray()
    for part in parts:
        view, at = memoryview(part), 0
        while at < len(view):
            taken = view[at : at + most - len(chunk)]
            chunk += taken
            at += len(taken)
            if len(chunk) == most:
                yield bytes(chunk)
                chunk.clear()
    if chunk:
        yield bytes(chunk)


def mebibytes(size: int) -> str:
    """A size for messages."""
    return f"{size / 2**20:.1f} MiB"


def gone(digest: str, place: str) -> IntegrityError:
    """The error of a blob that is not there."""
    return IntegrityError(
        f"blob {digest[:12]} cannot be read from {place}: it is not there. It was deleted, or its writer keeps large "
        "values elsewhere. Run the step again that made it."
    )


def damaged(digest: str, place: str, why: str = "it does not match its digest") -> CeleryflowError:
    """The error of a blob that is not what its name says, counted as a refusal."""
    return refusal(f"blob {digest[:12]} in {place} is damaged: {why}. It was not read.")
