"""ProcessPoolExecutor of the standard library as it comes: `map` sends item by item."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import steps
from benchmarks.contenders import WORKERS, Contender, Tasks, threes


class Pool:
    def __init__(self, pool: ProcessPoolExecutor, chunks: int | None = None) -> None:
        self._pool, self._chunks = pool, chunks

    def one(self, value: int) -> int:
        return self._pool.submit(steps.same, value).result()

    def map_sum(self, items: range, cost_s: float) -> int:
        return sum(self._map(items, cost_s))

    def chain(self, value: int, count: int, cost_s: float) -> int:
        for _ in range(count):
            value = self._pool.submit(steps.same, value, cost_s).result()
        return value

    def layers(self, values: range, count: int, cost_s: float) -> int:
        found, width = self._map(values, cost_s), len(values)
        for _ in range(count - 1):
            inputs = zip(*([found[j] for j in three] for three in threes(width)), strict=True)
            found = [*self._pool.map(partial(steps.join, cost_s=cost_s), *inputs, chunksize=self._size(width))]
        return sum(found)

    def stages(self, items: range, count: int, cost_s: float) -> int:
        found: Any = items
        for _ in range(count):
            found = self._map(found, cost_s)
        return sum(found)

    def frame(self, frame: Any, count: int) -> Any:
        for _ in range(count):
            frame = self._pool.submit(steps.add_one, frame).result()
        return frame

    def graph(self, tasks: Tasks) -> int:
        raise NotImplementedError

    def rest(self) -> None:
        pass

    def _map(self, items: Any, cost_s: float) -> list[int]:
        return [*self._pool.map(partial(steps.same, cost_s=cost_s), items, chunksize=self._size(len(items)))]

    def _size(self, count: int) -> int:
        return max(1, count // self._chunks) if self._chunks else 1


@contextmanager
def started(chunks: int | None = None) -> Iterator[Contender]:
    """A pool whose `map` sends this many chunks; by default each item alone."""
    with ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(steps.total, [0]).result()
        yield Pool(pool, chunks)
