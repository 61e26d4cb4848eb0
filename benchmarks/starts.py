"""How long processes take from their start to their first line: a first result, an import, a command."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import celeryflow as cf
from benchmarks.contenders import WORKERS
from benchmarks.measure import Row, WrongResultError

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "fresh-celeryflow": ("first result in a fresh kernel", ["-m", "benchmarks.scripts.fresh_celeryflow"]),
    "fresh-celery": ("bare server, Celery worker and first result by hand", ["-m", "benchmarks.scripts.fresh_celery"]),
    "python": ("python, doing nothing", ["-c", "print(1)"]),
    "import": ("python and import celeryflow", ["-c", "import celeryflow; print(1)"]),
    "ps": ("celeryflow ps --json", ["-m", "celeryflow", "ps", "--json"]),
}
"""Title and arguments for Python."""


def measure(repeats: int, say: Callable[[str], None] = print) -> list[Row]:
    """A row a command, taking turns; `ps` lists one run of a runtime that is there."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cf.connect(workers=WORKERS)
    try:
        cf.map(abs, [-1]).result()
        for repeat in range(repeats + 1):
            for name, (_, arguments) in COMMANDS.items():
                seconds = _time(arguments, repeat, is_apart=name.startswith("fresh"))
                times[name] += [seconds] if repeat else []
    finally:
        cf.shutdown()
    say("starts measured")
    return [
        {"work": name, "title": title, "seconds": statistics.median(times[name]), "all": times[name]}
        for name, (title, _) in COMMANDS.items()
    ]


def _time(arguments: list[str], number: int, is_apart: bool) -> float:
    """Until its first line stands; its end is awaited, but not timed."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments, *([str(number)] if is_apart else [])],
            cwd=folder if is_apart else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.communicate()
    if process.returncode or not line or (is_apart and line.strip() != str(number)):
        raise WrongResultError(f"{' '.join(arguments)} printed {line!r} and ended with {process.returncode}.")
    return seconds
