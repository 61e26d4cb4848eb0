"""Large values on the server itself: a hash of chunks each, which gets its name when all of it is there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis

from celeryflow.errors import ServerError, ServerFullError, StorageError
from celeryflow.store.collect import deployment
from celeryflow.store.connect import Client
from celeryflow.store.scripts import Store
from celeryflow.values.blobs.held import HELD_BYTES, Held
from celeryflow.values.blobs.place import checked, damaged, digest_of, gone, in_chunks, mebibytes, size_of
from celeryflow.values.codec import Buffer

FULLEST = 0.9
"""How much of the server's memory limit values may fill: the state of runs needs the rest."""

UNFINISHED_S = 3600
"""What was not written to for so long was left by a writer that died; the server deletes it by itself."""

_TRIES = 3
_BATCH = 500


class ServerBlobs:
    """Large values beside the runs, for deployments that have no other place in common.

    Parameters
    ----------
    store : Store
        The runs of the deployment.
    client : Client
        Moves chunks: unlike the store's, it does not wait for room, and bears with slow links.
    held_bytes : int
        How much of what was read this process keeps a copy of.
    """

    place = "the server itself"

    def __init__(self, store: Store, client: Client, held_bytes: int = HELD_BYTES) -> None:
        self.store, self.client = store, client
        self._held = Held(held_bytes)

    def put(self, parts: Sequence[Buffer]) -> str:
        """As of Blobs."""
        digest, size = digest_of(parts), size_of(parts)
        if not self.touch(digest, size):
            self._see_room(size)
            if not any(self._write(digest, size, parts) for _ in range(_TRIES)):
                raise StorageError(f"a value of {mebibytes(size)} was lost on the server while it was written.")
        return digest

    def touch(self, digest: str, size: int) -> bool:
        """As of Blobs."""
        found, _ = self.store.call("blob_touch", digest)
        return bool(found == b"%d" % size)

    def get(self, digest: str, size: int | None = None) -> Buffer:
        """As of Blobs."""
        held = self._held.get(digest)
        return self._held.keep(digest, self._read(digest, size), self.place) if held is None else held

    def close(self) -> None:
        """As of Blobs."""
        self._held.close()
        self.client.close()

    # --- collecting --------------------------------------------------------------------------

    def now(self) -> float:
        """As of Blobs."""
        seconds, micros = self.store.client.time()
        return float(seconds + micros / 1e6)

    def mark(self, deployment: str) -> None:
        """The prefix is the deployment's own."""

    def users(self) -> set[str]:
        """Nobody else has the prefix."""
        return {deployment(self.store)}

    def unused_since(self, before: float) -> dict[str, int]:
        """As of Blobs."""
        return {digest: size for digest, size in self._unused(before) if size is not None}

    def discard(self, digest: str, before: float) -> bool:
        """As of Blobs."""
        return bool(self.store.call("blob_drop", digest, before, 0))

    def sweep(self, before: float) -> None:
        """As of Blobs."""
        for digest, size in self._unused(before):
            if size is None:  # somebody was about to put it
                self.discard(digest, before)
        for key in self.store.client.scan_iter(self.store.keys.new_blob("*"), count=1000):
            if self.now() - UNFINISHED_S + self.store.client.ttl(key) <= before:
                self.store.client.unlink(key)

    def _unused(self, before: float) -> Iterator[tuple[str, int | None]]:
        found = self.store.client.zrangebyscore(self.store.keys.blobs, "-inf", before)
        for first in range(0, len(found), _BATCH):
            digests = [digest.decode() for digest in found[first : first + _BATCH]]
            pipe = self.store.client.pipeline(transaction=False)
            for digest in digests:
                pipe.hget(self.store.keys.blob(digest), "size")
            for digest, size in zip(digests, pipe.execute(), strict=True):
                yield digest, None if size is None else int(size)

    # --- chunks ------------------------------------------------------------------------------

    def _see_room(self, size: int) -> None:
        memory = self.client.info("memory")
        most, used = int(memory.get("maxmemory") or 0), int(memory["used_memory"])
        if most and used + size > FULLEST * most:
            raise StorageError(
                f"a value of {mebibytes(size)} does not fit on the server: {mebibytes(used)} of its {mebibytes(most)} "
                f"are in use, and a tenth stays free for the state of runs. {_WAYS_OUT}"
            )

    def _write(self, digest: str, size: int, parts: Sequence[Buffer]) -> bool:
        name = f"{digest}:{secrets.token_hex(4)}"
        key, fields = self.store.keys.new_blob(name), 1
        try:
            self._add(key, "size", size)
            for number, chunk in enumerate(in_chunks(parts)):
                self._add(key, str(number), chunk)
                fields += 1
            return bool(self.store.call("blob_publish", digest, size, name, fields))
        except ServerFullError as error:
            raise StorageError(
                f"a value of {mebibytes(size)} does not fit on the server: {error} {_WAYS_OUT}"
            ) from None
        finally:
            with suppress(ServerError):  # it expires
                self.client.unlink(key)

    def _add(self, key: str, field: str, value: Any) -> None:
        self.client.pipeline(transaction=False).hset(key, field, value).expire(key, UNFINISHED_S).execute()

    def _read(self, digest: str, size: int | None) -> Iterator[bytes]:
        key, had = self.store.keys.blob(checked(digest)), 0
        try:
            stored = self.client.hget(key, "size")
            if stored is None:
                raise gone(digest, self.place)
            wanted = int(stored)
            if size not in (None, wanted):
                raise damaged(digest, self.place, f"it has {wanted} bytes and should have {size}")
            number = 0
            while had < wanted:
                chunk = self.client.hget(key, str(number))
                if not chunk:
                    raise damaged(digest, self.place, f"it has {had} bytes and should have {wanted}")
                yield chunk
                had += len(chunk)
                number += 1
        except (redis.ResponseError, ValueError):
            raise damaged(digest, self.place, "something else has its name") from None


_WAYS_OUT = "Raise its maxmemory, make room (celeryflow gc), or keep values elsewhere: blobs= of cf.connect()."
