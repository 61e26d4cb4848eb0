"""What a call takes: seconds, and the memory that it held at its peak."""

from __future__ import annotations

import ctypes
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from celeryflow.errors import StepTimeoutError

TRIM_ABOVE_BYTES = 2**20
"""Where a process has grown by more than this, the allocator gives free memory back, so that the next peak shows."""

_settled_bytes = -TRIM_ABOVE_BYTES
"""What this process held when free memory had last been given back."""

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Measured(NamedTuple):
    """What a call gave and took; `peak_bytes` is above what the process held before, NaN where that cannot be told."""

    output: Any
    seconds: float
    peak_bytes: float


def measured(call: Callable[[], Any]) -> Measured:
    """The output of a call, its time by the performance counter, and its peak of resident memory above the baseline.

    On Linux the kernel's high-water mark of the process is set back before the call. Memory that Python had kept for
    reuse is in the baseline, so that a small peak may show as zero.
    """
    before = _reset_peak()
    started = time.perf_counter()
    output = call()
    seconds = time.perf_counter() - started
    if before is None:
        return Measured(output, seconds, math.nan)
    peak, _ = _resident()
    return Measured(output, seconds, float(max(0, peak - before)))


def _reset_peak() -> int | None:
    """Resident bytes now, which are the peak from here on; None where the system cannot do that."""
    global _settled_bytes
    if not _can_reset():
        return None
    _write_reset()
    _, now = _resident()
    if now > _settled_bytes + TRIM_ABOVE_BYTES:
        _give_back()
        _write_reset()
        _, _settled_bytes = _resident()
        return _settled_bytes
    _settled_bytes = min(_settled_bytes, now)
    return now


def _write_reset() -> None:
    with open(_CLEAR, "wb", buffering=0) as file:  # noqa: PTH123 - a third of the time
        file.write(b"5")


@cache
def _can_reset() -> bool:
    try:
        _write_reset()
        peak, now = _resident()
    except (OSError, ValueError):
        return False
    return 0 < now <= peak


def _resident() -> tuple[int, int]:
    """Peak and present resident bytes of this process."""
    with open(_STATUS, "rb", buffering=0) as file:  # noqa: PTH123
        text = file.read(4096)
    return _field(text, b"VmHWM:"), _field(text, b"VmRSS:")


def _field(text: bytes, name: bytes) -> int:
    start = text.index(name) + len(name)
    return int(text[start : text.index(b" kB", start)]) * 1024


@cache
def _trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


def _give_back() -> None:
    trim = _trim()
    if trim is not None:
        trim(0)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The generators that all code of a process shares (``random``, ``numpy.random``) from `seed` on."""
    state, kept = random.getstate(), _numpy.get_bit_generator()
    random.seed(seed)
    _numpy.set_bit_generator(_generator)  # to read and write numpy's state takes ten times as long
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        _numpy.set_bit_generator(kept)


_numpy: Any = np.random  # whose stubs know nothing of these two functions
_generator = np.random.MT19937(0)


@contextmanager
def limited(timeout_s: float | None) -> Iterator[None]:
    """Stop what takes longer with `StepTimeoutError`, in the main thread; elsewhere it comes to its end.

    A timer that somebody else had set goes on afterwards.
    """
    if timeout_s is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: Any) -> None:
        raise StepTimeoutError(f"took longer than timeout_s={timeout_s:g}")

    handler = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)), interval)
