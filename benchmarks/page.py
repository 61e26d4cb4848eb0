"""How soon a run is seen in JupyterLab, and what showing it costs the page: what the browser's test measured."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row

ROOT = Path(__file__).parents[1]
COMMAND = [str(ROOT / "run.py"), "test", "-n", "0", "-q", "tests/browser/test_load.py"]
FIGURES = "CELERYFLOW_FIGURES"
"""Variable with the file that the test writes its figures to."""


def measure(say: Callable[[str], None] = print) -> list[Row]:
    """A row, or none where there is no Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        environment = {**os.environ, FIGURES: str(target)}
        done = subprocess.run([sys.executable, *COMMAND], env=environment, capture_output=True, text=True, check=False)
        if not target.exists():
            said = (done.stdout + done.stderr).strip().splitlines()
            say(f"the page of a run was not measured: {said[-1] if said else 'no reason given'}")
            return []
        found = json.loads(target.read_text())
    say("page of a run measured")
    return [_row(found["seen_after_ms"], found["load"])]


def _row(seen_after_ms: list[float], load: dict[str, Any]) -> Row:
    updates = len(load["updates_at_s"])
    return {
        "work": "page",
        "title": "1,000 steps and a map of 100,000 items",
        "seen_s": statistics.median(seen_after_ms) / 1000,
        "update_s": load["page_s"] / updates,
        "longest_task_s": max(load["long_tasks_ms"], default=0.0) / 1000,
        "late_s": load["late_s"],
        "updates": updates,
        "bytes_an_update": load["bytes_each"],
        "cpu_share": load["kernel_s"] / load["wall_s"],
        "all": [each / 1000 for each in seen_after_ms],
    }
