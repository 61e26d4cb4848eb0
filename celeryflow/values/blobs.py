"""Large values as files: named by their SHA-256, written aside and renamed, mapped as private copies.

When one was last put is in the file's time of access: whoever collects what nobody needs leaves alone what was put a
short while ago, as what is to name it may not be stored yet.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from celeryflow.errors import IntegrityError, StorageError
from celeryflow.values.codec import Buffer
from celeryflow.values.refusals import refusal

_NEW, _OLD, _USER = ".new-", ".old-", ".used-by-"


class FileBlobs:
    """A directory of blobs, shared by all processes of one machine or of one file system."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._verified: set[tuple[str, int, int]] = set()

    def put(self, parts: Sequence[Buffer]) -> str:
        """Store the concatenated parts; their digest.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        hasher = hashlib.sha256()
        for part in parts:
            hasher.update(part)
        path = self._path(hasher.hexdigest())
        try:
            if not self.touch(hasher.hexdigest()):
                self._write(path, parts)
            self._verified.add(self._identity(path))
        except OSError as error:
            size = sum(map(len, parts)) / 2**20
            raise StorageError(
                f"a value of {size:.1f} MiB cannot be written to {self.directory}: {error.strerror}. "
                "Make room there (celeryflow gc), or keep values elsewhere with blobs= of cf.connect()."
            ) from None
        return hasher.hexdigest()

    def touch(self, digest: str) -> bool:
        """Say that a blob is about to be named by something; whether it is there."""
        path = self._path(digest)
        try:
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def get(self, digest: str) -> Buffer:
        """The bytes of a blob; writing to them changes nobody else's.

        Raises
        ------
        IntegrityError
            If the blob is gone.
        SignatureError
            If it is not what its name says.
        """
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise IntegrityError(f"blob {digest[:12]} cannot be read from {self.directory}: {error}") from None
        identity = self._identity(path)
        if identity not in self._verified:
            if hashlib.sha256(data).hexdigest() != digest:
                raise refusal(f"blob {digest[:12]} in {self.directory} is damaged: it does not match its digest.")
            self._verified.add(identity)
        return memoryview(data)

    # --- collecting --------------------------------------------------------------------------

    def mark(self, deployment: str) -> None:
        """Say that a deployment keeps values here. One that has the directory for itself need not."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / f"{_USER}{deployment}").mkdir(exist_ok=True)

    def users(self) -> set[str]:
        """The deployments that say so."""
        return {path.name.removeprefix(_USER) for path in self.directory.glob(f"{_USER}*")}

    def unused_since(self, before: float) -> dict[str, int]:
        """Blobs that were not put since a time (in seconds since 1970), and their sizes in bytes."""
        return {path.name: size for path, size in self._files(before) if not path.name.startswith(".")}

    def discard(self, digest: str, before: float) -> bool:
        """Delete a blob, unless somebody has put it since; whether it was deleted."""
        path = self._path(digest)
        aside = path.with_name(f"{_OLD}{digest}")
        with suppress(FileNotFoundError):
            path.rename(aside)  # from now on whoever puts it writes it anew
            if _used_at(aside) > before:
                aside.rename(path)
                return False
            aside.unlink()
            return True
        return False

    def sweep(self, before: float) -> None:
        """Delete what was left by processes that died while they wrote."""
        for path, _ in self._files(before):
            if path.name.startswith((_NEW, _OLD)):
                path.unlink(missing_ok=True)

    def _files(self, before: float) -> Iterator[tuple[Path, int]]:
        for path in self.directory.glob("??/*"):
            with suppress(FileNotFoundError):
                if _used_at(path) <= before:
                    yield path, path.stat().st_size

    def _path(self, digest: str) -> Path:
        return self.directory / digest[:2] / digest

    def _identity(self, path: Path) -> tuple[str, int, int]:
        status = path.stat()
        return path.name, status.st_ino, status.st_mtime_ns

    def _write(self, path: Path, parts: Sequence[Buffer]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_NEW)
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _used_at(path: Path) -> float:
    status = path.stat()
    return max(status.st_atime, status.st_mtime)
