"""What the faults cost: kills, repeated executions, stalls; shown at the end of `run.py faults`."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

FILE = "CELERYFLOW_FAULT_FIGURES"
"""Variable with the path of the file to which all tests append their figures; without it nobody wants them."""


def count(name: str, number: int = 1) -> None:
    """So many more of something."""
    _note(name, number, None)


def time(name: str, seconds: float) -> None:
    """Something took so long."""
    _note(name, 0, seconds)


def lines(path: str) -> list[str]:
    """A line a name: the sum, or the longest, the median and how many."""
    counts: dict[str, int] = defaultdict(int)
    times: dict[str, list[float]] = defaultdict(list)
    for name, number, seconds in map(json.loads, Path(path).read_text().splitlines()):
        if seconds is None:
            counts[name] += number
        else:
            times[name].append(seconds)
    width = max(map(len, [*counts, *times]), default=0)
    return [f"{name:{width}}  {number}" for name, number in counts.items()] + [
        f"{name:{width}}  longest {max(all_s):.2f} s, median {sorted(all_s)[len(all_s) // 2]:.2f} s, of {len(all_s)}"
        for name, all_s in times.items()
    ]


def _note(name: str, number: int, seconds: float | None) -> None:
    if path := os.environ.get(FILE):
        with Path(path).open("a") as file:  # one write a line, so that tests at work together do not mix theirs
            file.write(json.dumps([name, number, seconds]) + "\n")
