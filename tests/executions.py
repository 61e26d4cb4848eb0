"""Executions as the steps themselves write them down: the witness that knows nothing of celeryflow's own records."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celeryflow as cf


@dataclass(frozen=True)
class Execution:
    """One execution of a step; `end` is None where it never came to its end. Times are of the monotonic clock."""

    key: str
    run: str
    step: str
    index: int | None
    attempt: int
    pid: int
    ppid: int
    start: float
    end: float | None = None


@dataclass(frozen=True)
class Executions:
    """A file that each execution appends a line to at its start and at its end (`O_APPEND`, one write a line)."""

    path: str

    @contextmanager
    def recorded(self) -> Iterator[cf.Current]:
        """Write down the execution of the step that is running here."""
        here, key = cf.current(), secrets.token_hex(8)
        facts = {"run": here.run_id, "step": here.step, "index": here.index, "attempt": here.attempt}
        self._append({"key": key, **facts, "pid": os.getpid(), "ppid": os.getppid(), "start": time.monotonic()})
        yield here
        self._append({"key": key, "end": time.monotonic()})

    def note(self, text: str) -> None:
        """Write down anything else."""
        self._append({"note": text})

    def notes(self) -> list[str]:
        """What was noted, in order."""
        return [line["note"] for line in self._lines() if "note" in line]

    def read(self, step: str | None = None, run: str | None = None) -> list[Execution]:
        """Executions in the order of their starts."""
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            if "key" in line:
                found.setdefault(line["key"], {}).update(line)
        executions = sorted((Execution(**facts) for facts in found.values()), key=lambda e: e.start)
        return [e for e in executions if step in (None, e.step) and run in (None, e.run)]

    def _lines(self) -> list[dict[str, Any]]:
        path = Path(self.path)
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]  # others are being written, or torn by a kill

    def _append(self, line: dict[str, Any]) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, b"\n" + json.dumps(line).encode() + b"\n")
        finally:
            os.close(handle)


def most_at_a_time(executions: Sequence[Execution]) -> int:
    """How many ran beside each other, at most."""
    changes = sorted([(e.start, 1) for e in executions] + [(e.end or float("inf"), -1) for e in executions])
    counts = [0]
    for _, change in changes:
        counts.append(counts[-1] + change)
    return max(counts)


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """What `condition` gives, once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.01)
    return found
