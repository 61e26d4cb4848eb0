"""Files that only their owner reads, records that are never seen half written, and locks."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from typing import Self

LOCK, KEEPER_LOCK, RECORD = "lock", "keeper.lock", "runtime.json"
MEMBERS, LOGS, BLOBS, DATA = "members", "logs", "blobs", "data"
"""Files and directories of a runtime's home."""

LOG_LIMIT_BYTES = 5 * 1024 * 1024
"""A log longer than this is set aside when its process starts again."""


def make_private(directory: Path) -> Path:
    """Make `directory`, and what it lies in, with mode 0700 whatever the umask; given back."""
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
    return directory


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
    temporary.replace(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty where there is none.

    Other failures are raised: too many open files, say, must not read as a kernel that has left.
    """
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write what `read_record` reads."""
    write_private(path, json.dumps(record))


def open_log(path: Path) -> BinaryIO:
    """Open a log of mode 0600 to append to; a long one is set aside first."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".old.log"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")


def last_lines(path: Path, count: int = 20) -> str:
    """Read the end of a log, indented for a message, after its path."""
    text = path.read_bytes()[-16_384:].decode(errors="replace") if path.exists() else ""
    lines = text.splitlines()[-count:] or ["(nothing)"]
    return "\n  ".join([f"Last lines of {path}:", *lines])


class Lock:
    """A lock on an open file, which ends with its holders: nothing is left to delete by hand.

    Parameters
    ----------
    path : Path
        The file, made if it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(self.descriptor, 0o600)

    def take(self, within_s: float = 0.0) -> bool:
        """Whether the lock could be had in time."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.01)
            else:
                return True

    def give_back(self) -> None:
        """Free it for others, even if a forked child has the descriptor as well."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_current(self) -> bool:
        """Whether the path still leads to the locked file, which nobody moved or deleted."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        os.close(self.descriptor)
