"""Whether a process still lives, and which processes came from another.

A process is named by its id and a *mark* of its start: ids are used again. psutil is imported late, because
a supervisor that needs it only to clean up should not wait 30 ms for it at its start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

LAUNCH = "CELERYFLOW_LAUNCH"
"""Variable by which the descendants of a launched process are known after their parents have died."""

_STATE, _STARTED = 0, 19
"""Fields of /proc/<pid>/stat, counted after the name in parentheses."""


def identity() -> dict[str, str]:
    """Where process ids mean what they mean here: host, boot and namespace."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": os.uname().nodename,
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def start_mark(pid: int) -> str:
    """Read what tells the process from a later one of the same id; empty if it is dead or a zombie.

    On Linux ticks since boot: the times that psutil gives move when the clock is set.
    """
    if not sys.platform.startswith("linux"):
        return _start_time(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[_STATE] in "ZX" else fields[_STARTED]


def _start_time(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""


def is_alive(pid: int, mark: str) -> bool:
    """Whether the very process of that mark still runs."""
    return bool(mark) and start_mark(pid) == mark


def die_with(parent: int) -> Callable[[], None]:
    """Make a function for a new child to call, so that it ends when `parent` dies (Linux only).

    By SIGTERM: a worker killed at once would leave its pool, whose processes wait for work for ever.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    set_death_signal = 1

    def arm() -> None:
        prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arm


def end_family(leaders: dict[int, str], launch: str, within_s: float = 2.0) -> None:
    """Kill what descends from launched processes, though they may be dead, until nothing is left.

    Parameters
    ----------
    leaders : dict of int to str
        Id and mark of the launched processes, each leader of its session.
    launch : str
        Start of their `LAUNCH` variable.
    within_s : float
        Stop trying after so long.
    """
    deadline = time.monotonic() + within_s
    # An id whose leader is somebody else by now names somebody else's session.
    sessions = {pid for pid, mark in leaders.items() if start_mark(pid) in {"", mark}}
    while (found := _family(sessions, launch)) and time.monotonic() < deadline:
        for process in found:
            _kill(process)
        time.sleep(0.02)


def _family(sessions: set[int], launch: str) -> list[psutil.Process]:
    """Living processes of the sessions or with the variable, and all their descendants."""
    import psutil

    living = [p for p in psutil.process_iter(["ppid", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE]
    ours = {p.pid for p in living if _belongs(p, sessions, launch)} - {os.getpid()}
    while more := {p.pid for p in living if p.info["ppid"] in ours} - ours - {os.getpid()}:
        ours |= more
    return [p for p in living if p.pid in ours]


def _belongs(process: psutil.Process, sessions: set[int], launch: str) -> bool:
    import psutil

    with suppress(psutil.Error, OSError):
        return os.getsid(process.pid) in sessions or process.environ().get(LAUNCH, "").startswith(launch)
    return False


def _kill(process: psutil.Process) -> None:
    import psutil

    with suppress(psutil.Error):  # gone, or, like sudo, no longer ours to kill
        process.kill()
