"""Ray on this machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from benchmarks import steps
from benchmarks.contenders import WORKERS, Contender, Tasks, threes


class Ray:
    def __init__(self) -> None:
        self._same, self._join, self._add_one = (ray.remote(f) for f in (steps.same, steps.join, steps.add_one))

    def one(self, value: int) -> int:
        return int(ray.get(self._same.remote(value)))

    def map_sum(self, items: range, cost_s: float) -> int:
        return sum(ray.get([self._same.remote(x, cost_s) for x in items]))

    def chain(self, value: int, count: int, cost_s: float) -> int:
        found: Any = value
        for _ in range(count):
            found = self._same.remote(found, cost_s)
        return int(ray.get(found))

    def layers(self, values: range, count: int, cost_s: float) -> int:
        found, width = [self._same.remote(x, cost_s) for x in values], len(values)
        for _ in range(count - 1):
            found = [self._join.remote(found[a], found[b], found[c], cost_s) for a, b, c in threes(width)]
        return sum(ray.get(found))

    def stages(self, items: range, count: int, cost_s: float) -> int:
        found: Any = items
        for _ in range(count):
            found = [self._same.remote(x, cost_s) for x in found]
        return sum(ray.get(found))

    def frame(self, frame: Any, count: int) -> Any:
        found = ray.put(frame)
        for _ in range(count):
            found = self._add_one.remote(found)
        return ray.get(found)

    def graph(self, tasks: Tasks) -> int:
        raise NotImplementedError

    def rest(self) -> None:
        pass


@contextmanager
def started() -> Iterator[Contender]:
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield Ray()
    finally:
        ray.shutdown()
