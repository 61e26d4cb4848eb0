"""celeryflow on its embedded runtime."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celeryflow as cf
from benchmarks import steps
from benchmarks.contenders import WORKERS, Contender, Tasks, threes
from celeryflow.runtime.session import current

same, join, total = cf.step(steps.same), cf.step(steps.join), cf.step(steps.total)
one_more, one_less = cf.step(steps.one_more), cf.step(steps.one_less)
add_one, task, deepest = cf.step(steps.add_one), cf.step(steps.task), cf.step(steps.deepest)


@cf.workflow
def single(value: int) -> Any:
    return same(value)


@cf.workflow
def mapped(items: range, cost_s: float) -> Any:
    return total(same.map(items, cost_s))


@cf.workflow
def chained(value: int, count: int, cost_s: float) -> Any:
    found: Any = value
    for _ in range(count):
        found = same(found, cost_s)
    return found


@cf.workflow
def layered(values: range, count: int, cost_s: float) -> Any:
    found: list[Any] = [same(value, cost_s) for value in values]
    width = len(found)
    for _ in range(count - 1):
        found = [join(found[a], found[b], found[c], cost_s) for a, b, c in threes(width)]
    return total(found)


@cf.workflow
def staged(items: range, count: int, cost_s: float) -> Any:
    found: Any = items
    for _ in range(count):
        found = same.map(found, cost_s)
    return total(found)


@cf.workflow
def fanned(value: int, count: int) -> Any:
    """One node with `count` dependents, each a node of its own."""
    first = same(value)
    for _ in range(count):
        last = same(first)
    return last


@cf.workflow
def looped(value: int, count: int) -> Any:
    """A loop of `count` iterations, a step each."""
    end = value + count
    return cf.loop(one_more, value, until=lambda state: state >= end, max_iterations=count)


@cf.workflow
def twice(value: int) -> Any:
    return same(same(value))


@cf.workflow
def nested(value: int, count: int) -> Any:
    """A sub-workflow of two steps mapped over `count` items."""
    return total(twice.map(range(value, value + count)))


@cf.workflow
def descended(depth: int) -> Any:
    """A recursion, a step on the way down and one on the way up."""
    return same(descended(one_less(depth))) if depth else 0


@cf.workflow
def framed(frame: Any, count: int) -> Any:
    found = frame
    for _ in range(count):
        found = add_one(found)
    return found


@cf.workflow
def replayed(tasks: Tasks) -> Any:
    found: dict[str, Any] = {}
    for name, (parents, seconds) in tasks.items():
        found[name] = task.options(name=name)(seconds, *(found[parent] for parent in parents))
    return deepest([*found.values()])


class Celeryflow:
    def one(self, value: int) -> int:
        return int(single.submit(value).result())

    def map_sum(self, items: range, cost_s: float) -> int:
        return int(mapped.submit(items, cost_s).result())

    def chain(self, value: int, count: int, cost_s: float) -> int:
        return int(chained.submit(value, count, cost_s).result())

    def layers(self, values: range, count: int, cost_s: float) -> int:
        return int(layered.submit(values, count, cost_s).result())

    def stages(self, items: range, count: int, cost_s: float) -> int:
        return int(staged.submit(items, count, cost_s).result())

    def frame(self, frame: Any, count: int) -> Any:
        return framed.submit(frame, count).result()

    def graph(self, tasks: Tasks) -> int:
        return int(replayed.submit(tasks).result())

    def rest(self) -> None:
        """Until every drainer has lingered out, so that the next run starts with a ticket."""
        while current().link.store.drainers():
            time.sleep(0.01)


@contextmanager
def started() -> Iterator[Contender]:
    cf.connect(workers=WORKERS)
    try:
        yield Celeryflow()
    finally:
        cf.shutdown()
