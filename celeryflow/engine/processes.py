"""Facts about processes, and their end: alive, paused, with all that they started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil
from billiard.compat import mem_rss

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def become_subreaper() -> None:
    """Orphaned descendants come to this process instead of to process 1 (Linux)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have this process killed when the thread that forked it ends (Linux)."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def peak_bytes() -> int:
    """Most resident memory that this process has had, by which Celery replaces it; takes 1 us."""
    return int(mem_rss()) * 1024


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return int(psutil.Process().memory_info().rss)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def is_alive(pid: int) -> bool:
    """Whether the process runs or is paused; a zombie is dead."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_paused(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def memory_bytes(pid: int) -> int:
    """Resident memory that a process and its descendants hold for themselves: mapped files, unchanged, do not count."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return sum(map(_own_bytes, (process, *process.children(recursive=True))))
    return 0


def _own_bytes(process: psutil.Process) -> int:
    try:
        info = process.memory_info()
    except psutil.Error:  # ended meanwhile
        return 0
    return int(info.rss - getattr(info, "shared", 0))


def kill_tree(pid: int) -> None:
    """End a process, its group, and its descendants in whatever group."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        if pid != os.getpid():
            root.suspend()  # it must not see the others die, nor start more
        for process in root.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def has_started_others() -> bool:
    """Whether this process has children that run; of those whose parents have gone it is the parent (Linux)."""
    return any(is_alive(child) for child in _children())


def end_strays(own: Collection[int]) -> None:
    """Kill descendants that came home because the pool process that they came from has died (Linux).

    A pool process that was just forked may not be among its `own` yet: it is of the same session, and leads its group.
    """
    session, group = os.getsid(0), os.getpgid(0)
    for child in _children():
        with contextlib.suppress(ProcessLookupError):
            is_pools = os.getsid(child) == session and os.getpgid(child) in (group, child)
            if child not in own and not is_pools:
                kill_tree(child)


def _children() -> list[int]:
    """Those of this process; where the kernel keeps lists of them, without a look at all processes (5 ms)."""
    try:
        lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    except OSError:  # a thread has ended
        lists = []
    if not lists:
        return [child.pid for child in psutil.Process().children()]
    return [int(pid) for pids in lists for pid in pids.split()]


def how_it_ended(process: Any) -> str:
    """What is known of the end of a pool process, a `billiard.Process`, that is no longer alive."""
    code = process.exitcode if process is not None else None
    for _ in range(100):
        if code is not None or process is None:
            break
        time.sleep(0.01)  # another thread is burying it just now
        code = process.exitcode
    if code is None:
        return "died"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"exited with code {code}"


def reap_orphans(own: set[int]) -> None:
    """Bury dead descendants that came home (Linux); `own` are the children that somebody else waits for.

    It asks for a dead child alone: to look through all processes ten times a second costs 5 % of a core.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in own:
                return  # its pool buries it, and the others come next time
            os.waitpid(dead.si_pid, os.WNOHANG)
