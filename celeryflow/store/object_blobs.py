"""Large values on whatever fsspec reaches: an object store such as S3, as a rule.

An object cannot be told that it is about to be named, so the server knows when each was last put.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import fsspec

from celeryflow.errors import CeleryflowError, ConfigError, StorageError
from celeryflow.store.scripts import Store
from celeryflow.values.blobs.held import HELD_BYTES, Held
from celeryflow.values.blobs.place import CHUNK_BYTES, checked, damaged, digest_of, gone, in_chunks, mebibytes, size_of
from celeryflow.values.codec import Buffer

DELETING_S = 60
"""How long whoever puts a blob waits for somebody who deletes it at this moment; half of it is the time to do so."""

_NEW, _USER = ".new-", ".used-by-"
_BLOB = re.compile("([0-9a-f]{2})/(\\1[0-9a-f]{62})")
_BATCH = 500

_OF_ONE_PROCESS = frozenset({"memory", "data", "reference", "zip", "tar", "libarchive"})
_EXTRAS = {"s3": 'pip install "celeryflow[s3]"', "s3a": 'pip install "celeryflow[s3]"'}
_ALL_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "ocilake"})
"""Where an object is there when all of it is, and not before."""


class ObjectBlobs:
    """Large values under an fsspec URL.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, say. Keys and addresses are for its library to find: in the environment, as a rule.
    store : Store
        The runs of the deployment.
    held_bytes : int
        How much of what was read this process keeps a copy of.

    Raises
    ------
    ConfigError
        If there is no such file system, its package is missing, or no other process could read what is there.
    """

    def __init__(self, url: str, store: Store, held_bytes: int = HELD_BYTES) -> None:
        self.place = shown(url)
        self.store = store
        self._url, self._kind = url, _kind_of(url, self.place)
        self._held = Held(held_bytes)
        self._files: Any = None
        self._root, self._pid = "", 0

    def put(self, parts: Sequence[Buffer]) -> str:
        """As of Blobs."""
        digest, size = digest_of(parts), size_of(parts)
        if not self.touch(digest, size):
            with self._told(f"a value of {mebibytes(size)} cannot be written to"):
                self._write(self._path(digest), parts)
            self._expect(digest)  # a long time may have passed
        return digest

    def touch(self, digest: str, size: int) -> bool:
        """As of Blobs."""
        self._expect(digest)
        with self._told("it cannot be told which values are in"):
            return self._size(digest) == size

    def get(self, digest: str, size: int | None = None) -> Buffer:
        """As of Blobs."""
        held = self._held.get(digest)
        return self._held.keep(digest, self._read(digest, size), self.place) if held is None else held

    def close(self) -> None:
        """As of Blobs."""
        self._held.close()

    # --- collecting --------------------------------------------------------------------------

    def now(self) -> float:
        """As of Blobs; by the clock of the server."""
        seconds, micros = self.store.client.time()
        return float(seconds + micros / 1e6)

    def mark(self, deployment: str) -> None:
        """As of Blobs."""
        with self._told("large values cannot be written to"):
            files = self._open()
            if self._kind not in _ALL_AT_ONCE:
                files.makedirs(self._root, exist_ok=True)
            files.pipe_file(f"{self._root}/{_USER}{deployment}", b"")

    def users(self) -> set[str]:
        """As of Blobs."""
        with self._told("it cannot be listed what is in"):
            names = (str(path).rpartition("/")[2] for path in self._open().ls(self._root, detail=False))
            return {name.removeprefix(_USER) for name in names if name.startswith(_USER)}

    def unused_since(self, before: float) -> dict[str, int]:
        """As of Blobs. One that the server does not know of counts as put now."""
        found = {match[2]: size for name, size in self._list() if (match := _BLOB.fullmatch(name))}
        return {digest: found[digest] for digest in self._unused(list(found), before)}

    def discard(self, digest: str, before: float) -> bool:
        """As of Blobs."""
        began = time.monotonic()
        if not self.store.call("blob_drop", digest, before, DELETING_S):
            return False
        if time.monotonic() - began < DELETING_S / 2:  # later, somebody may have put it anew
            with self._told("a large value cannot be deleted from"):
                self._open().rm_file(self._path(digest))
        self.store.client.delete(self.store.keys.leaving(digest))
        return True

    def sweep(self, before: float) -> None:
        """As of Blobs. What is left of a large upload to an object store is not seen here: see its own rules for it."""
        with self._told("what was left over cannot be deleted from"):
            for name, _ in self._list():
                path = f"{self._root}/{name}"
                if name.rpartition("/")[2].startswith(_NEW) and self._files.modified(path).timestamp() <= before:
                    self._files.rm_file(path)

    def _expect(self, digest: str) -> None:
        """Say that it is about to be put, once nobody is deleting it."""
        while self.store.call("blob_touch", digest)[1]:
            time.sleep(0.1)

    def _unused(self, digests: list[str], before: float) -> Iterator[str]:
        for first in range(0, len(digests), _BATCH):
            page = digests[first : first + _BATCH]
            scores = self.store.client.zmscore(self.store.keys.blobs, page)
            unknown = {digest: self.now() for digest, score in zip(page, scores, strict=True) if score is None}
            if unknown:
                self.store.client.zadd(self.store.keys.blobs, unknown, nx=True)
            yield from (d for d, score in zip(page, scores, strict=True) if score is not None and score <= before)

    # --- objects -----------------------------------------------------------------------------

    def _open(self) -> Any:
        """The file system, of this process alone: some have a thread of their own, which no fork takes along."""
        if self._pid != os.getpid():
            options = {"skip_instance_cache": True, "use_listings_cache": False}
            self._files, root = fsspec.url_to_fs(self._url, **options)
            self._root, self._pid = root.rstrip("/"), os.getpid()
        return self._files

    def _path(self, digest: str) -> str:
        self._open()
        return f"{self._root}/{digest[:2]}/{checked(digest)}"

    def _size(self, digest: str) -> int | None:
        try:
            return int(self._open().info(self._path(digest))["size"])
        except FileNotFoundError:
            return None

    def _list(self) -> list[tuple[str, int]]:
        with self._told("it cannot be listed what is in"):
            found = self._open().find(self._root, detail=True)
        start = f"{self._root}/"
        return [(path.removeprefix(start), int(info["size"])) for path, info in found.items() if path.startswith(start)]

    def _write(self, path: str, parts: Sequence[Buffer]) -> None:
        files, folder = self._open(), path.rpartition("/")[0]
        if self._kind not in _ALL_AT_ONCE:
            files.makedirs(folder, exist_ok=True)
            aside = f"{folder}/{_NEW}{secrets.token_hex(8)}"
            with files.open(aside, "wb") as file:
                file.writelines(in_chunks(parts))
            files.mv(aside, path)
        elif size_of(parts) <= CHUNK_BYTES:
            files.pipe_file(path, b"".join(parts))
        else:
            self._upload(files.open(path, "wb", block_size=CHUNK_BYTES), parts)

    def _upload(self, file: Any, parts: Sequence[Buffer]) -> None:
        try:
            for chunk in in_chunks(parts):
                file.write(chunk)
        except BaseException:
            file.closed = True  # else whoever closes it publishes what is there
            with suppress(Exception):
                file.discard()
            raise
        file.close()

    def _read(self, digest: str, size: int | None) -> Iterator[bytes]:
        with self._told("a large value cannot be read from"):
            found = self._size(digest)
            if found is None:
                raise gone(digest, self.place)
            if size not in (None, found):
                raise damaged(digest, self.place, f"it has {found} bytes and should have {size}")
            for at in range(0, found, CHUNK_BYTES):
                end = min(at + CHUNK_BYTES, found)
                yield self._files.cat_file(self._path(digest), start=at, end=end)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Errors of the file system's own library, as one of ours."""
        try:
            yield
        except CeleryflowError:
            raise
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            raise StorageError(f"{what} {self.place}: {_brief(error)}") from None


def shown(url: str) -> str:
    """An fsspec URL without its password, and as everybody writes it."""
    scheme, _, rest = url.partition("://")
    user = rest.partition("/")[0].rpartition("@")[0]
    masked = f"***{rest[len(user) :]}" if ":" in user else rest
    return f"{scheme}://{masked.partition('?')[0].rstrip('/')}"


def _kind_of(url: str, place: str) -> str:
    kind = url.partition("://")[0]
    if "::" in url or kind in _OF_ONE_PROCESS:
        raise ConfigError(
            f"blobs: what is in {place} is not shared, and workers could not read it. "
            "Say a bucket (s3://bucket/prefix), a shared folder, or nothing for the server itself."
        )
    try:
        fsspec.get_filesystem_class(kind)
    except ValueError:
        raise ConfigError(f"blobs: {place} is no address that fsspec knows: it has no file system {kind!r}.") from None
    except ImportError as error:
        way_out = f"{error}".rstrip(".") if kind not in _EXTRAS else f"Run: {_EXTRAS[kind]}"
        raise ConfigError(f"blobs: for {place} a package is missing. {way_out}") from None
    if not urlsplit(url).netloc and not urlsplit(url).path.strip("/"):
        raise ConfigError(f"blobs: {place!r} names no bucket or folder.")
    return kind


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
