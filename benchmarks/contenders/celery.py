"""Plain Celery: chords, chains and groups, on a server of its own with results in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from celery import chain, chord, group

from benchmarks.contenders import Contender, Tasks, threes
from benchmarks.servers import bare_server, celery_worker

LIMIT_S = 600


class Celery:
    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks

    def one(self, value: int) -> int:
        return int(self._tasks.same.delay(value).get(timeout=LIMIT_S))

    def map_sum(self, items: range, cost_s: float) -> int:
        header = [self._tasks.same.s(x, cost_s) for x in items]
        return int(chord(header)(self._tasks.total.s()).get(timeout=LIMIT_S))

    def chain(self, value: int, count: int, cost_s: float) -> int:
        same = self._tasks.same
        steps = [same.s(value, cost_s=cost_s), *(same.s(cost_s=cost_s) for _ in range(count - 1))]
        return int(chain(*steps).apply_async().get(timeout=LIMIT_S))

    def layers(self, values: range, count: int, cost_s: float) -> int:
        """Group by group."""
        found, width = self._group(self._tasks.same.s(x, cost_s) for x in values), len(values)
        for _ in range(count - 1):
            join = self._tasks.join
            found = self._group(join.s(found[a], found[b], found[c], cost_s) for a, b, c in threes(width))
        return sum(found)

    def stages(self, items: range, count: int, cost_s: float) -> int:
        same = self._tasks.same
        header = [chain(same.s(x, cost_s=cost_s), *(same.s(cost_s=cost_s),) * (count - 1)) for x in items]
        return int(chord(header)(self._tasks.total.s()).get(timeout=LIMIT_S))

    def frame(self, frame: Any, count: int) -> Any:
        add_one = self._tasks.add_one
        return chain(add_one.s(frame), *(add_one.s() for _ in range(count - 1))).apply_async().get(timeout=LIMIT_S)

    def graph(self, tasks: Tasks) -> int:
        raise NotImplementedError

    def rest(self) -> None:
        pass

    def _group(self, signatures: Any) -> list[int]:
        return list(group(signatures).apply_async().get(timeout=LIMIT_S))


@contextmanager
def started() -> Iterator[Contender]:
    with bare_server():
        tasks = import_module("benchmarks.scripts.tasks")
        with celery_worker():
            contender = Celery(tasks)
            contender.one(0)
            yield contender
