"""Where an embedded runtime keeps its state, and which state is trusted.

The *home* is ``.celeryflow`` beside the notebook. Its keys are in the user's state directory under the home's
id, so that a home that came with a downloaded folder has none here and is moved aside.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from celeryflow.errors import CeleryflowWarning, RuntimeStartError
from celeryflow.runtime.files import KEEPER_LOCK, LOCK, Lock, make_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = ".celeryflow"
_WAIT_S = 20.0
_SHARED_FILESYSTEMS = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "drvfs", "gfs2", "gpfs", "lustre", "nfs", "nfs4"}
    | {"ocfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"}
)


def locate(directory: Path) -> Path:
    """Give the home that `directory` has or would have; nothing is made."""
    beside = directory / NAME
    return beside if _is_ours(beside) and not is_shared(directory) else _fallback(directory)


@contextmanager
def opened(directory: Path) -> Iterator[Path]:
    """Give the home of `directory`, made and trusted, with the lock held that start, join and stop take.

    Raises
    ------
    RuntimeStartError
        If no home can be made or written to, or the lock is not free in time.
    """
    if not directory.is_dir():
        raise RuntimeStartError(f"cannot start in {str(directory)!r}: it is not a directory.")
    try:
        while True:
            home = _made(directory)
            with Lock(home / LOCK) as lock:
                if not lock.take(_WAIT_S):
                    raise RuntimeStartError(f"{home} is locked by a start or stop for over {_WAIT_S:.0f} s.")
                if not lock.is_current():
                    continue  # moved or deleted while we waited
                if _is_trusted(home):
                    home.chmod(0o700)
                    yield home
                    return
                _move_aside(home)
    except OSError as error:
        message = f"cannot keep state for {str(directory)!r}: {error}. Set XDG_STATE_HOME."
        raise RuntimeStartError(message) from None


def key_file(home: Path) -> Path:
    """Give the path of the home's keys, whether or not they exist."""
    return _state() / _read_id(home) / "key"


def is_shared(directory: Path) -> bool:
    """Whether other machines may see the directory: locks and sockets cannot be relied on there."""
    import psutil

    resolved = directory.resolve()
    holding = [p for p in psutil.disk_partitions(all=True) if resolved.is_relative_to(p.mountpoint)]
    # Of two on one point the later covers the earlier.
    kind = max(reversed(holding), key=lambda p: len(p.mountpoint)).fstype if holding else ""
    return kind in _SHARED_FILESYSTEMS or kind.startswith("fuse.")


def _state() -> Path:
    given = os.environ.get("XDG_STATE_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".local" / "state") / "celeryflow"


def _fallback(directory: Path) -> Path:
    # The host too, since the state directory may itself be shared.
    name = f"{os.uname().nodename}:{directory.resolve()}"
    return _state() / "homes" / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _made(directory: Path) -> Path:
    """Make the home if need be: beside the notebook if that can be, else in the state directory."""
    beside = directory / NAME
    if not is_shared(directory):
        if beside.is_symlink() or (beside.exists() and not beside.is_dir()):
            _move_aside(beside)
        with suppress(OSError):
            make_private(beside)
        if beside.exists() and not _is_owned(beside):
            # Moving it would end the runtime of its owner, who may be working in the same folder.
            _warn(f"{beside} belongs to another user; state is kept in your state directory instead.")
    return make_private(locate(directory))


def _is_owned(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid()


def _is_ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and _is_owned(path) and os.access(path, os.W_OK | os.X_OK)


def _is_trusted(home: Path) -> bool:
    """Whether the home's key is here; an empty home is given one."""
    if not {path.name for path in home.iterdir()} - {LOCK, ".gitignore"}:
        _furnish(home)
    key = key_file(home)
    return bool(_read_id(home)) and key.is_file() and not key.is_symlink() and _is_owned(key)


def _furnish(home: Path) -> None:
    name = secrets.token_hex(16)
    write_private(make_private(_state() / name) / "key", secrets.token_hex(32) + "\n")
    write_private(home / ".gitignore", "*\n")
    write_private(home / "id", name + "\n")


def _read_id(home: Path) -> str:
    """Read the home's id; empty unless it is one, since it becomes part of a path."""
    path = home / "id"
    text = path.read_text(errors="replace")[:64].strip() if path.is_file() and not path.is_symlink() else ""
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""


def _move_aside(home: Path) -> None:
    if home.is_dir() and _is_running(home):
        raise RuntimeStartError(
            f"a runtime works in {home}, but its keys are not in {_state()}: it was started with another "
            "HOME or XDG_STATE_HOME. Use the same, or stop it there first."
        )
    number = 1
    while os.path.lexists(aside := home.with_name(f"{NAME}.quarantined-{number}")):
        number += 1
    home.rename(aside)
    _warn(f"{home} was not made by you here: its keys are not in {_state()}. It is now {aside.name}.")


def _is_running(home: Path) -> bool:
    with Lock(home / KEEPER_LOCK) as lock:
        return not lock.take()


def _warn(text: str) -> None:
    warnings.warn(text, CeleryflowWarning, stacklevel=2)
