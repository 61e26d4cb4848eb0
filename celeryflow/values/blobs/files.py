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
from typing import Any

from celeryflow.errors import StorageError
from celeryflow.values.blobs.place import checked, damaged, digest_of, gone, is_digest, mebibytes, size_of
from celeryflow.values.codec import Buffer

_NEW, _OLD, _USER = ".new-", ".old-", ".used-by-"


class FileBlobs:
    """A directory of blobs, shared by all processes of one machine or of one file system."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()  # steps change the working directory
        self.place = str(self.directory)
        self._verified: set[tuple[Any, ...]] = set()

    def put(self, parts: Sequence[Buffer]) -> str:
        """As of Blobs."""
        digest, size = digest_of(parts), size_of(parts)
        path = self._path(digest)
        try:
            if not self.touch(digest, size):
                self._write(path, parts)
            self._verified.add(self._identity(path))
        except OSError as error:
            raise StorageError(
                f"a value of {mebibytes(size)} cannot be written to {self.directory}: {error.strerror}. "
                "Make room there (celeryflow gc)."
            ) from None
        return digest

    def touch(self, digest: str, size: int) -> bool:
        """As of Blobs."""
        path = self._path(digest)
        try:
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def get(self, digest: str, size: int | None = None) -> Buffer:
        """As of Blobs."""
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise gone(digest, self.place) from None
        except (OSError, ValueError) as error:
            raise damaged(digest, self.place, f"it cannot be read ({error})") from None
        identity = self._identity(path)
        if size not in (None, len(data)):
            raise damaged(digest, self.place, f"it has {len(data)} bytes and should have {size}")
        if identity not in self._verified:
            if hashlib.sha256(data).hexdigest() != digest:
                raise damaged(digest, self.place)
            self._verified.add(identity)
        return memoryview(data)

    # --- collecting --------------------------------------------------------------------------

    def now(self) -> float:
        """As of Blobs; by the clock of this machine."""
        return time.time()

    def mark(self, deployment: str) -> None:
        """As of Blobs. One that has the directory for itself need not."""
        try:
            _make_private(self.directory)
            _make_private(self.directory / f"{_USER}{deployment}")
        except OSError as error:
            raise StorageError(f"{self.directory} cannot be written to: {error.strerror}.") from None

    def users(self) -> set[str]:
        """As of Blobs."""
        return {path.name.removeprefix(_USER) for path in self.directory.glob(f"{_USER}*")}

    def unused_since(self, before: float) -> dict[str, int]:
        """As of Blobs."""
        return {path.name: size for path, size in self._files(before) if is_digest(path.name)}

    def discard(self, digest: str, before: float) -> bool:
        """As of Blobs."""
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
        """As of Blobs."""
        for path, _ in self._files(before):
            if path.name.startswith((_NEW, _OLD)):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """There are no connections."""

    def _files(self, before: float) -> Iterator[tuple[Path, int]]:
        for path in self.directory.glob("??/*"):
            with suppress(FileNotFoundError):
                if _used_at(path) <= before:
                    yield path, path.stat().st_size

    def _path(self, digest: str) -> Path:
        return self.directory / digest[:2] / checked(digest)

    def _identity(self, path: Path) -> tuple[Any, ...]:
        status = path.stat()
        return path.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _write(self, path: Path, parts: Sequence[Buffer]) -> None:
        _make_private(self.directory)
        _make_private(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_NEW)
        try:
            os.fchmod(handle, 0o600)  # whatever the umask
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _make_private(folder: Path) -> None:
    """Make a folder for its owner alone; one that is there stays as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask


def _used_at(path: Path) -> float:
    status = path.stat()
    return max(status.st_atime, status.st_mtime)
