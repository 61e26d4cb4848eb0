"""How much longer a tenant waits because of another one: ``python -m benchmarks.tenants [REPEATS]``.

A quiet tenant's 30 items of 20 ms are run alone, beside a flood, rubbish or what is over its quota in the same run, and
beside a flood of another run. The cases take turns in random order; medians, and ratios to alone (goal: 1.5).
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from typing import Any

import celeryflow as cf
from celeryflow.patterns import TenantConfig, multi_tenant

QUIET = {"quiet": [1] * 30}
CASES: dict[str, dict[str, list[Any]]] = {
    "alone": QUIET,
    "a flood": {"flood": [1] * 150} | QUIET,
    "rubbish": {"bad": ["rubbish"] * 150} | QUIET,
    "over its quota": {"over": [1] * 2000} | QUIET,
}


def work(item: Any, settings: dict[str, Any]) -> Any:
    """Some 20 ms, or a failure."""
    if item == "rubbish":
        raise ValueError(item)
    time.sleep(0.02)
    return item


def wait_s(wf: Any, data: dict[str, list[Any]]) -> float:
    """Mean time from the submit to the start of each of the quiet tenant's items."""
    run = wf.run(data)
    timeline = run.timeline()
    mine = timeline[timeline.step == "work.quiet"]
    return float((mine.started_at - mine.ready_at).dt.total_seconds().mean())


def main(repeats: int) -> None:
    """Measure, and print a line a case."""
    config = {"quiet": 1000, "flood": 5000, "bad": 1000, "over": 10}
    wf = multi_tenant(process=work, aggregate=len, config={name: TenantConfig(most) for name, most in config.items()})
    wf.run(QUIET)
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for case, data in random.sample([*CASES.items()], len(CASES)):
            found.setdefault(case, []).append(wait_s(wf, data))
        flood = wf.submit({"flood": [1] * 200})
        while flood.timeline().empty:
            time.sleep(0.01)
        found.setdefault("another run's flood", []).append(wait_s(wf, QUIET))
        flood.wait()
    alone = statistics.median(found["alone"])
    for case, seconds in found.items():
        median = statistics.median(seconds)
        print(f"{case:20} mean wait {1000 * median:4.0f} ms, {median / alone:.2f} of alone")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        cf.connect(workers=2)
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
        cf.shutdown()
