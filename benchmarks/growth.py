"""Cost as work grows: seconds, the client's share, the server's time and memory, and how long it was blocked."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import celeryflow as cf
from benchmarks import steps, watch
from benchmarks.contenders import WORKERS, celeryflow
from benchmarks.measure import Row, WrongResultError
from benchmarks.works import LAYERS

SIZES = (100, 1_000, 10_000, 100_000)

Submit = Callable[[int, int], Any]

SHAPES: dict[str, Submit] = {
    "map": lambda start, size: celeryflow.mapped.submit(range(start, start + size), 0.0),
    "chain": lambda start, size: celeryflow.chained.submit(start, size, 0.0),
    "layers": lambda start, size: celeryflow.layered.submit(range(start, start + size // LAYERS), LAYERS, 0.0),
    "fan-out": lambda start, size: celeryflow.fanned.submit(start, size - 1),
}

CONTROL: dict[str, tuple[Submit, tuple[int, ...], int]] = {
    "loop": (lambda start, size: celeryflow.looped.submit(start, size), (100, 1_000), 1),
    "sub-workflows": (lambda start, size: celeryflow.nested.submit(start, size), (200, 2_000), 2),
    "recursion": (lambda start, size: celeryflow.descended.submit(size), (10, 50), 2),
}
"""What a run adds to itself: how it is started, sizes, and steps that an iteration, item or level runs."""


def measure(repeats: int, sizes: tuple[int, ...], say: Callable[[str], None] = print) -> list[Row]:
    """A row a shape and size: medians, but the longest of all waits."""
    return [row for size in sizes for row in _rows(size, repeats, say)]


def _rows(size: int, repeats: int, say: Callable[[str], None]) -> Iterator[Row]:
    """In a fresh runtime each size, so that a server's memory and log start small."""
    cf.connect(workers=WORKERS)
    try:
        for submit in SHAPES.values():
            submit(1, SIZES[0]).result()
        for shape, submit in SHAPES.items():
            yield _row(shape, size, [_measured(submit, 1_000 * (i + 2), size, size) for i in range(repeats)])
            say(f"{shape} of {size:,} nodes measured")
    finally:
        cf.shutdown()


def measure_control(repeats: int, divisor: int, say: Callable[[str], None] = print) -> list[Row]:
    """A row a construct and size, in one runtime."""
    rows = []
    cf.connect(workers=WORKERS)
    try:
        for shape, (submit, sizes, steps_each) in CONTROL.items():
            submit(1, 2).result()
            for size in (size // divisor for size in sizes):
                found = [_measured(submit, 1_000 * (i + 2), size, steps_each * size) for i in range(repeats)]
                rows.append(_row(shape, size, found))
            say(f"{shape} measured")
    finally:
        cf.shutdown()
    return rows


def _measured(submit: Submit, start: int, size: int, executions: int) -> dict[str, Any]:
    gc.collect()
    before = steps.counted()
    with watch.watched() as found:
        began = time.perf_counter()
        run = submit(start, size)
        submitted = time.perf_counter()
        run.result()
        ended = time.perf_counter()
    if (ran := steps.counted() - before) != executions:
        raise WrongResultError(f"{executions} steps ran {ran} times.")
    memory = watch.memory_bytes(run.id)
    return {**found, "seconds": ended - began, "submit_s": submitted - began, "memory_bytes": memory}


def _row(shape: str, size: int, found: list[dict[str, Any]]) -> Row:
    middle = {name: statistics.median(one[name] for one in found) for name in ("seconds", "submit_s", "memory_bytes")}
    slowest = max(found, key=lambda one: one["slowest_command_s"])
    return {
        "shape": shape,
        "size": size,
        **middle,
        "all": [round(one["seconds"], 6) for one in found],
        "server_us_a_node": 1e6 * statistics.median(one["server_cpu_s"] for one in found) / size,
        "longest_ping_s": max(one["ping_longest_s"] for one in found),
        "ping_p999_s": statistics.median(one["ping_p999_s"] for one in found),
        "slowest_command_s": slowest["slowest_command_s"],
        "slowest_command": slowest["slowest_command"],
    }
