"""Ten real workflows as works (tests/data/README.md), and the shortest time that two workers could need for each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from benchmarks.contenders import WORKERS, Tasks
from benchmarks.works import Work
from celeryflow.graph import checks

DATA = Path(__file__).parents[1] / "tests" / "data" / "traces.json.gz"
SCALE = 1e-4
"""Seconds of CPU time for each second of the recorded run."""


def traces() -> dict[str, Tasks]:
    """Tasks of each workflow, parents first."""
    data = json.loads(gzip.decompress(DATA.read_bytes()))
    return {family: _tasks(trace["tasks"]) for family, trace in sorted(data.items())}


def _tasks(recorded: dict[str, Any]) -> Tasks:
    order = checks.order({name: parents for name, (parents, _) in recorded.items()})
    return {name: (recorded[name][0], recorded[name][1] * SCALE) for name in order}


def bound_s(tasks: Tasks) -> float:
    """No schedule on `WORKERS` workers is shorter: the longest path, or an even share of all work."""
    ends: dict[str, float] = {}
    for name, (parents, seconds) in tasks.items():
        ends[name] = seconds + max((ends[parent] for parent in parents), default=0.0)
    return max(max(ends.values()), sum(seconds for _, seconds in tasks.values()) / WORKERS)


def depth(tasks: Tasks) -> int:
    """Tasks on the longest chain, which is what replaying a trace gives."""
    found: dict[str, int] = {}
    for name, (parents, _) in tasks.items():
        found[name] = 1 + max((found[parent] for parent in parents), default=0)
    return max(found.values())


def works() -> list[Work]:
    """A work a trace; for those who take a whole graph."""
    return [_work(family, tasks) for family, tasks in traces().items()]


def _work(family: str, tasks: Tasks) -> Work:
    return Work(
        name=f"trace {family}",
        title=family,
        size=len(tasks),
        # A nanosecond more each time, so that no two repeats are the same.
        given=lambda start, size: {name: (parents, s + start * 1e-12) for name, (parents, s) in tasks.items()},
        do=lambda contender, given, size: contender.graph(given),
        answer=lambda given, size: depth(given),
        is_divisible=False,
        contenders=("celeryflow", "dask"),
    )
