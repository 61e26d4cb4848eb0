"""``python3 run.py bench``: each work by each contestant in turn, medians, ratios; the table as JSON too."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import celeryflow as cf
from benchmarks import works

WORKERS = 2
SIZES = {"map": 10_000, "chain": 1_000}
Works = dict[str, Callable[[int, int], int]]


@contextlib.contextmanager
def contestants() -> Iterator[dict[str, Works]]:
    """Who takes part, started."""
    from distributed import Client, LocalCluster

    cf.connect(workers=WORKERS)
    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    with ProcessPoolExecutor(WORKERS) as pool, cluster, Client(cluster) as client:
        yield {
            "celeryflow": works.with_celeryflow(),
            "process pool": works.with_processes(pool),
            "dask": works.with_dask(client),
        }
    cf.shutdown()


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds by work and contestant; inputs differ in each repeat, and turns alternate."""
    with contestants() as taking_part:
        return {work: _median_times(work, size, taking_part, repeats) for work, size in SIZES.items()}


def _median_times(work: str, size: int, taking_part: dict[str, Works], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in taking_part}
    for repeat in range(repeats + 1):
        for name, its in taking_part.items():
            seconds = _time(its[work], 1000 * repeat, size, work)
            times[name] += [seconds] if repeat else []  # the first is a warm-up
    return {name: statistics.median(found) for name, found in times.items()}


def _time(do: Callable[[int, int], int], start: int, size: int, work: str) -> float:
    began = time.perf_counter()
    found = do(start, size)
    seconds = time.perf_counter() - began
    wanted = start if work == "chain" else sum(range(start, start + size))
    if found != wanted:
        raise SystemExit(f"{work} gave {found}, not {wanted}")
    return seconds


def table(found: dict[str, dict[str, float]]) -> Table:
    """Medians and how many times longer the others take."""
    shown = Table("work", "contestant", "seconds", "x celeryflow")
    for work, times in found.items():
        for name, seconds in times.items():
            shown.add_row(f"{work} of {SIZES[work]:,}", name, f"{seconds:.3f}", f"{seconds / times['celeryflow']:.1f}")
    return shown


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write the figures")
    options = parser.parse_args()
    target = options.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        found = measure(options.repeats)
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "celeryflow": cf.__version__,
        "cores": os.cpu_count(),
        "repeats": options.repeats,
    }
    target.write_text(json.dumps({**facts, "seconds": found}, indent=2) + "\n")
    Console().print(table(found))


if __name__ == "__main__":
    main()
