"""The same works, done by celeryflow and by others; each gives the number that its sum must be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import celeryflow as cf

CHUNK = 64


def same(x: int) -> int:
    """A no-op."""
    return x


def total(xs: list[int]) -> int:
    """What ends a map."""
    return sum(xs)


step, add_up = cf.step(same), cf.step(total)


@cf.workflow
def mapped(start: int, count: int) -> Any:
    """A map of no-ops and their sum."""
    return add_up(step.map(range(start, start + count)))


@cf.workflow
def chained(start: int, count: int) -> Any:
    """No-ops one after the other."""
    value: Any = start
    for _ in range(count):
        value = step(value)
    return value


def with_celeryflow() -> dict[str, Callable[[int, int], int]]:
    """On the embedded runtime."""
    return {
        "map": lambda start, count: mapped.run(start, count).result(),
        "chain": lambda start, count: chained.run(start, count).result(),
    }


def with_processes(pool: ProcessPoolExecutor) -> dict[str, Callable[[int, int], int]]:
    """On a process pool; its map has the chunk size that suits it."""

    def chain(start: int, count: int) -> int:
        value = start
        for _ in range(count):
            value = pool.submit(same, value).result()
        return value

    return {
        "map": lambda start, count: sum(pool.map(same, range(start, start + count), chunksize=CHUNK)),
        "chain": chain,
    }


def with_dask(client: Any) -> dict[str, Callable[[int, int], int]]:
    """On Dask's distributed scheduler."""

    def chain(start: int, count: int) -> int:
        value = client.submit(same, start, pure=False)
        for _ in range(count - 1):
            value = client.submit(same, value, pure=False)
        return int(value.result())

    def map_and_sum(start: int, count: int) -> int:
        return int(client.submit(total, client.map(same, range(start, start + count), pure=False)).result())

    return {"map": map_and_sum, "chain": chain}
