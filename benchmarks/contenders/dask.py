"""Dask's distributed scheduler, a process with one thread a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

from benchmarks import steps
from benchmarks.contenders import WORKERS, Contender, Tasks, threes


class Dask:
    def __init__(self, client: Any) -> None:
        self._client = client

    def one(self, value: int) -> int:
        return int(self._submit(steps.same, value).result())

    def map_sum(self, items: range, cost_s: float) -> int:
        return self._sum(self._map(items, cost_s))

    def chain(self, value: int, count: int, cost_s: float) -> int:
        found: Any = value
        for _ in range(count):
            found = self._submit(steps.same, found, cost_s)
        return int(found.result())

    def layers(self, values: range, count: int, cost_s: float) -> int:
        found, width = self._map(values, cost_s), len(values)
        for _ in range(count - 1):
            found = [self._submit(steps.join, found[a], found[b], found[c], cost_s) for a, b, c in threes(width)]
        return self._sum(found)

    def stages(self, items: range, count: int, cost_s: float) -> int:
        found: Any = items
        for _ in range(count):
            found = self._map(found, cost_s)
        return self._sum(found)

    def frame(self, frame: Any, count: int) -> Any:
        found = self._client.scatter(frame, hash=False)
        for _ in range(count):
            found = self._submit(steps.add_one, found)
        return found.result()

    def graph(self, tasks: Tasks) -> int:
        found: dict[str, Any] = {}
        for name, (parents, seconds) in tasks.items():
            found[name] = self._submit(steps.task, seconds, *(found[parent] for parent in parents))
        return int(self._submit(steps.deepest, [*found.values()]).result())

    def rest(self) -> None:
        pass

    def _submit(self, function: Any, *arguments: Any) -> Any:
        return self._client.submit(function, *arguments, pure=False)

    def _map(self, items: Any, cost_s: float) -> list[Any]:
        return list(self._client.map(steps.same, items, cost_s=cost_s, pure=False))

    def _sum(self, found: list[Any]) -> int:
        return int(self._submit(steps.total, found).result())


@contextmanager
def started() -> Iterator[Contender]:
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client)
