"""What the faults cost: kills, repeated executions, stalls; shown at the end of a test run."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

FILE = "CELERYFLOW_FAULT_FIGURES"
"""Variable with the path of a file, to which all figures are appended too."""


class Figures:
    """Durations and counts by name."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @classmethod
    def read(cls, path: str) -> Figures:
        """Those in a file."""
        figures = cls()
        for line in Path(path).read_text().splitlines():
            figures._add(*json.loads(line))
        return figures

    def count(self, name: str, number: int = 1) -> None:
        """So many more of something."""
        self._note(name, number, None)

    def time(self, name: str, seconds: float) -> None:
        """Something took so long."""
        self._note(name, 0, seconds)

    def lines(self) -> list[str]:
        """A line a name: the number, or the longest, the median and how many."""
        width = max(map(len, [*self.counts, *self.seconds]), default=0)
        lines = [f"{name:{width}}  {number}" for name, number in self.counts.items()]
        for name, all_s in self.seconds.items():
            median = sorted(all_s)[len(all_s) // 2]
            lines.append(f"{name:{width}}  longest {max(all_s):.2f} s, median {median:.2f} s, of {len(all_s)}")
        return lines

    def _note(self, name: str, number: int, seconds: float | None) -> None:
        self._add(name, number, seconds)
        if path := os.environ.get(FILE):
            with Path(path).open("a") as file:
                file.write(json.dumps([name, number, seconds]) + "\n")

    def _add(self, name: str, number: int, seconds: float | None) -> None:
        if seconds is None:
            self.counts[name] += number
        else:
            self.seconds[name].append(seconds)
