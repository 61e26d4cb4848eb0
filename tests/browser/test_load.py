"""How soon a run is seen; and what showing 1,000 steps and a map of 100,000 items costs kernel, wire and page.

``CELERYFLOW_FIGURES`` names a file that the figures are written to as JSON: ``python3 run.py bench --only page``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .pages import Notebook

FIGURES = "CELERYFLOW_FIGURES"
TURNS, MOST_TURNS = 5, 25
SEEN_MS = 100

LOAD = """
@cf.step
def begin(gate):
    wait_for(gate)


@cf.step
def work(begun):
    time.sleep(0.008)


@cf.step
def item(number, begun):
    return number


@cf.workflow
def load(gate):
    begun = begin(gate)
    for phase in range(10):
        with cf.phase(f"phase {phase}"):
            for _ in range(100):
                work(begun)
    with cf.phase("items"):
        item.map(range(100_000), cf.unmapped(begun))
"""


@dataclass(frozen=True)
class Measured:
    """What was measured from the first step to the picture of the end."""

    wall_s: float
    kernel_s: float
    late_s: float
    updates_at_s: list[float]
    bytes_each: float
    long_tasks_ms: list[float]
    page_s: float


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    """What was measured, to be written down at the end."""
    found: dict[str, Any] = {}
    yield found
    if target := os.environ.get(FIGURES):
        Path(target).write_text(json.dumps(found))


@pytest.fixture(scope="module")
def seen_after_ms(notebook: Notebook, figures: dict[str, Any]) -> list[float]:
    """How long after the call of `run` there were boxes on the screen, in turns: on a machine that is busy with others
    more of them, as one will be undisturbed."""
    found: list[float] = []
    notebook.run("flights_etl.run()").view.ends("success")  # all is loaded
    while len(found) < TURNS or (min(found) >= SEEN_MS and len(found) < MOST_TURNS):
        cell = notebook.cell("began = time.time()\nflights_etl.run()")
        notebook.drive("appears", f'[data-test-cell="{cell.mark}"] g.node')
        cell.run()
        appeared_ms = notebook.page.evaluate("() => window.driver.appeared")
        found.append(appeared_ms - 1000 * notebook.ask("began"))
        if len(found) % TURNS == 0:
            notebook.clear()
    figures["seen_after_ms"] = found
    return found


@pytest.fixture(scope="module")
def measured(notebook: Notebook, figures: dict[str, Any]) -> Measured:
    notebook.run(LOAD)
    gate = notebook.gate()
    cell = notebook.run(f"run = load.submit({gate!r})\nrun")
    cell.view.expect_box("begin", "running")
    cell.root.get_by_role("button", name=re.compile("^phase 4")).click()
    expect(cell.view.boxes).to_have_count(1 + 9 + 100 + 1)
    devtools = notebook.page.context.new_cdp_session(notebook.page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    kernel = notebook.kernel

    def page_s() -> float:
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return sum(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    notebook.drive("listen")
    notebook.drive("appears", f'[data-test-cell="{cell.mark}"] .cf-chip.success')
    before, began = (kernel.cpu_times(), page_s()), time.monotonic()
    notebook.open_gate(gate)
    shown_at = notebook.page.evaluate("() => window.driver.appeared") / 1000
    after, wall_s = (kernel.cpu_times(), page_s()), time.monotonic() - began
    heard = notebook.page.evaluate("() => window.driver.heard")
    ended_at = notebook.ask("run.events()['at'].max().timestamp()")
    found = Measured(
        wall_s=wall_s,
        kernel_s=after[0].user + after[0].system - before[0].user - before[0].system,
        late_s=shown_at - ended_at,
        updates_at_s=[update["at"] / 1000 for update in heard["updates"]],
        bytes_each=sum(update["bytes"] for update in heard["updates"]) / max(1, len(heard["updates"])),
        long_tasks_ms=heard["long"],
        page_s=after[1] - before[1],
    )
    figures["load"] = asdict(found)
    return found


def test_a_run_is_seen_within_100_ms(seen_after_ms: list[float]) -> None:
    """Of a kernel that has shown one before. What else the machine does comes on top: the quickest turn counts, and
    where more is to be run than there are processors all takes so many times longer."""
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert min(seen_after_ms) < SEEN_MS * crowd, (seen_after_ms, crowd)


def test_the_kernel_spends_little_on_the_view(measured: Measured) -> None:
    """5 % of a core for the view; and 3 % for what else a kernel does that waits for 100,000 items."""
    assert measured.kernel_s < (0.05 + 0.03) * measured.wall_s, measured


def test_the_picture_is_updated_at_most_10_times_a_second(measured: Measured) -> None:
    at = measured.updates_at_s
    assert len(at) >= 3
    assert all(later - earlier > 1.0 for earlier, later in zip(at, at[11:], strict=False)), measured


def test_an_update_is_little_more_than_a_byte_a_step(measured: Measured) -> None:
    assert measured.bytes_each < 8000, measured


def test_no_update_waits_in_a_queue(measured: Measured) -> None:
    """The end is on the screen when the run has ended."""
    assert measured.late_s < 1.0, measured


def test_an_update_takes_the_page_less_than_50_ms(measured: Measured) -> None:
    """Processor time of all that its main thread did meanwhile; JupyterLab's own, at the cell's end too, is as two."""
    assert measured.page_s < 0.050 * (len(measured.updates_at_s) + 2), measured
