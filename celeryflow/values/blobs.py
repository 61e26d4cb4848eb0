"""Large values as files: named by their SHA-256, written aside and renamed, mapped as private copies."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from celeryflow.errors import IntegrityError, StorageError
from celeryflow.values.codec import Buffer


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
            if not path.exists():
                self._write(path, parts)
            self._verified.add(self._identity(path))
        except OSError as error:
            size = sum(map(len, parts)) / 2**20
            raise StorageError(
                f"a value of {size:.1f} MiB cannot be written to {self.directory}: {error.strerror}. "
                "Make room there (celeryflow gc), or keep values elsewhere with blobs= of cf.connect()."
            ) from None
        return hasher.hexdigest()

    def get(self, digest: str) -> Buffer:
        """The bytes of a blob; writing to them changes nobody else's.

        Raises
        ------
        IntegrityError
            If the blob is gone, or is not what its name says.
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
                raise IntegrityError(
                    f"blob {digest[:12]} in {self.directory} is damaged: it does not match its digest."
                )
            self._verified.add(identity)
        return memoryview(data)

    def _path(self, digest: str) -> Path:
        return self.directory / digest[:2] / digest

    def _identity(self, path: Path) -> tuple[str, int, int]:
        status = path.stat()
        return path.name, status.st_ino, status.st_mtime_ns

    def _write(self, path: Path, parts: Sequence[Buffer]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
