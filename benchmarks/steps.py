"""What the steps of all works do, the same for every contender; each execution is counted in its worker."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any

PLACE = "BENCH_COUNTS"
"""Environment variable: the directory of the counts, one file of eight bytes a process."""

PRIME = 1_000_003

_counter: Any = None


def same(x: int, cost_s: float = 0.0) -> int:
    """Give `x` back, after `cost_s` seconds of CPU time."""
    count()
    if cost_s:
        spin(cost_s)
    return x


def one_more(x: int) -> int:
    """An iteration of a loop."""
    count()
    return x + 1


def one_less(x: int) -> int:
    """A step of a recursion."""
    count()
    return x - 1


def join(a: int, b: int, c: int, cost_s: float = 0.0) -> int:
    """Three inputs made into one, after `cost_s` seconds of CPU time."""
    count()
    if cost_s:
        spin(cost_s)
    return (a + 2 * b + 3 * c) % PRIME


def total(xs: list[int]) -> int:
    """What ends a work."""
    return sum(xs)


def add_one(frame: Any) -> Any:
    """A new DataFrame of the same size."""
    count()
    return frame + 1.0


def task(cost_s: float, *parents: int) -> int:
    """A node of a trace: one more than its deepest parent, after `cost_s` seconds of CPU time."""
    count()
    spin(cost_s)
    return 1 + max(parents, default=0)


def deepest(found: list[int]) -> int:
    """What ends a trace."""
    return max(found)


def spin(cost_s: float) -> None:
    """Use CPU time, not wall-clock time: waiting for a core does not count as work."""
    end = time.thread_time() + cost_s
    while time.thread_time() < end:
        pass


def count() -> None:
    """One more execution in this process: an addition in mapped memory, some 0.1 us."""
    global _counter
    if _counter is None:
        _counter = _open(Path(os.environ[PLACE]) / str(os.getpid()))
    _counter[0] += 1


def counted() -> int:
    """Executions so far, in all processes."""
    files = Path(os.environ[PLACE]).iterdir()
    return sum(int.from_bytes(path.read_bytes(), "little") for path in files)


def _open(path: Path) -> Any:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, 8)
        return memoryview(mmap.mmap(handle, 8)).cast("Q")
    finally:
        os.close(handle)
