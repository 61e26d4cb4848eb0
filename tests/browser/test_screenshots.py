"""The screenshots of docs/notebook.md, taken of real runs. `CELERYFLOW_SCREENSHOTS` says where to put them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from .pages import Cell, Notebook

DOCUMENT = Path(__file__).parents[2] / "docs" / "notebook.md"
STEPS = """
import time
from pathlib import Path

import celeryflow as cf
import pandas as pd


def rows_of(source):
    times = [600 + 5 * (number % 12) for number in range(336)]
    return pd.DataFrame({"flight": range(1001, 1337), "dep_time": times, "carrier": ["UA", "AA"] * 168})


@cf.step(retries=3, retry_delay_s=300)
def extract(source, table, asleep=False):
    print(f"reading {source}: 336 rows")
    if asleep:
        raise ConnectionError("the registry of planes is asleep")
    time.sleep(0.3 * len(source) / 7)
    return rows_of(source).to_dict("records") if table else rows_of(source)


@cf.step
def clean(row, stop):
    while row["flight"] >= stop and not Path("finish").exists():
        time.sleep(0.02)
    time.sleep(0.005)
    print(f"flight {row['flight']}: cleaned")
    return row


@cf.step
def validate(row, bad):
    check_clock(row["flight"], 2460 if row["flight"] in bad else row["dep_time"])
    return row


def check_clock(flight, dep_time):
    if dep_time % 100 > 59:
        raise ValueError(f"dep_time {dep_time} is not a time of day")


@cf.step
def join(flights, weather):
    return pd.DataFrame(flights)


@cf.step
def by_carrier(table):
    return table.groupby("carrier")["dep_time"].mean()


@cf.step
def load_warehouse(table):
    print("1 table loaded")


@cf.step
def verify_rows(loaded):
    return True


@cf.step
def notify(verified):
    return "sent"
"""
WORKFLOW = """
@cf.workflow
def flights_etl(stop=10_000, bad=(), asleep=False):
    with cf.phase("extract"):
        flights = extract.options(name="extract_flights")("flights", True)
        weather = extract.options(name="extract_weather")("weather", False)
        planes = extract.options(name="extract_planes", priority=6)("planes", False, asleep)
    with cf.phase("transform"):
        checked = validate.map(clean.map(flights, stop), cf.unmapped(bad))
    with cf.phase("aggregate"):
        carriers = by_carrier(join(checked, weather))
    with cf.phase("load"):
        return notify(verify_rows(load_warehouse.options(after=[planes])(carriers)))
"""


@pytest.fixture(scope="module", autouse=True)
def defined(notebook: Notebook) -> None:
    notebook.run(STEPS)
    notebook.run(WORKFLOW)


@pytest.fixture(scope="module")
def running(notebook: Notebook) -> Iterator[Cell]:
    """A run half way: a step waits to be tried again, a map is at work, items of another failed."""
    cell = notebook.run("run = flights_etl.submit(stop=1213, bad=[1042], asleep=True)\nrun")
    cell.view.expect_box("extract_planes", "retrying")
    cell.view.expect_box("validate", "running")
    expect(cell.view.box("clean")).to_have_attribute("aria-label", re.compile("2[0-9][0-9] / 336"))
    yield cell
    notebook.run("run.cancel()")


@pytest.fixture
def take(notebook: Notebook, screenshot: Callable[[Locator, str], Path]) -> Callable[[Locator, str], None]:
    def take(shown: Locator, name: str) -> None:
        notebook.page.mouse.move(0, 0)
        taken = screenshot(shown, name)
        assert 4_000 < taken.stat().st_size < 200_000
        assert f"images/{name}.png" in DOCUMENT.read_text()

    return take


def test_a_run_that_failed(notebook: Notebook, take: Callable[[Locator, str], None]) -> None:
    cell = notebook.run("flights_etl.run(bad=[1042, 1180])")
    cell.view.ends("failure")
    expect(cell.view.aside).to_contain_text("check_clock")
    take(cell.root, "notebook-failed")


def test_the_whole_of_jupyterlab(notebook: Notebook, take: Callable[[Locator, str], None]) -> None:
    cell = notebook.run("flights_etl.run()")
    cell.view.ends("success")
    cell.view.box("join").click()
    expect(cell.view.aside).to_contain_text("dep_time")
    take(notebook.page.locator("#main"), "notebook-lab")


def test_a_run_half_way(running: Cell, take: Callable[[Locator, str], None]) -> None:
    running.show()
    running.view.box("clean").click()
    expect(running.view.aside).to_contain_text("clean")
    take(running.root, "notebook-running")


def test_a_run_half_way_in_the_dark(running: Cell, notebook: Notebook, take: Callable[[Locator, str], None]) -> None:
    notebook.drive("theme", "JupyterLab Dark")
    running.show()
    take(running.root, "notebook-dark")
    notebook.drive("theme", "JupyterLab Light")
