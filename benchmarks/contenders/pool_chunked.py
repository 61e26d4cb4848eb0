"""ProcessPoolExecutor with chunks by hand, four a worker as ``multiprocessing.Pool`` takes them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks.contenders import WORKERS, Contender, pool


def started() -> AbstractContextManager[Contender]:
    return pool.started(4 * WORKERS)
