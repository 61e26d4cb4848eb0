"""Verified copies of blobs from far away, so that a process fetches what many of its items need once.

They are files without a name: nobody else can open them, and whatever ends the process deletes them.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

from celeryflow.errors import StorageError
from celeryflow.values.blobs.place import damaged
from celeryflow.values.codec import Buffer

HELD_BYTES = 2**30


class Held:
    """Copies of up to `limit_bytes` in all; those that were not read for the longest time make room."""

    def __init__(self, limit_bytes: int = HELD_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._files: OrderedDict[str, tuple[IO[bytes], int]] = OrderedDict()
        self._lock = threading.Lock()  # a notebook reads in several threads

    def get(self, digest: str) -> Buffer | None:
        """A copy to write to, if one is held."""
        with self._lock:
            if digest not in self._files:
                return None
            self._files.move_to_end(digest)
            return _mapped(self._files[digest][0])

    def keep(self, digest: str, chunks: Iterable[Buffer], place: str) -> Buffer:
        """Hold what comes from `place` under that digest; a copy to write to.

        Raises
        ------
        IntegrityError
            If it is something else. Nothing is held then.
        StorageError
            If there is no room for temporary files.
        """
        file, hasher, size = _nameless(), hashlib.sha256(), 0
        try:
            for chunk in chunks:
                hasher.update(chunk)
                size += len(chunk)
                _write(file, chunk)
            if hasher.hexdigest() != digest:
                raise damaged(digest, place)
            found = _mapped(file)
        except BaseException:
            file.close()
            raise
        with self._lock:
            self._drop(digest)
            self._files[digest] = file, size
            while self._files and sum(size for _, size in self._files.values()) > self.limit_bytes:
                self._drop(next(iter(self._files)))
        return found

    def close(self) -> None:
        """Hold nothing more; what was given out stays."""
        with self._lock:
            while self._files:
                self._drop(next(iter(self._files)))

    def _drop(self, digest: str) -> None:
        with suppress(KeyError):
            self._files.pop(digest)[0].close()


def _mapped(file: IO[bytes]) -> Buffer:
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _nameless() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise _no_room(error) from None


def _write(file: IO[bytes], chunk: Buffer) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> StorageError:
    return StorageError(
        f"a large value cannot be written to {tempfile.gettempdir()}: {error.strerror}. "
        "Make room there, or name another folder for temporary files by TMPDIR."
    )
