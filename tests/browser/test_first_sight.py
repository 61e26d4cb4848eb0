"""What somebody sees who runs a workflow in a cell: in JupyterLab and in Notebook 7."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from .pages import Cell, Notebook, cleared


@pytest.fixture(scope="module", params=["lab", "seven"])
def notebook(request: pytest.FixtureRequest) -> Iterator[Notebook]:
    yield from cleared(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def succeeded(notebook: Notebook) -> Iterator[Cell]:
    """A cell that ran the workflow to its end, and has the run as its last expression."""
    return notebook.run("flights_etl.run()")


@pytest.fixture(scope="module")
def failed(notebook: Notebook) -> Cell:
    return notebook.run("broken = flights_etl.run(bad=[7, 9])\nbroken")


def test_a_run_that_is_the_last_expression_shows_one_picture(succeeded: Cell) -> None:
    succeeded.show()
    succeeded.view.ends("success")
    expect(succeeded.root).to_have_count(1)
    expect(succeeded.view.boxes).to_have_count(6)
    pictures = succeeded.output.locator("img:visible, svg.cf-dag:visible")
    expect(pictures).to_have_count(1)


def test_the_picture_colours_itself_as_work_proceeds(notebook: Notebook) -> None:
    gate = notebook.gate()
    cell = notebook.start(f"flights_etl.run(gate={gate!r})")
    cell.view.expect_box("flights", "success")
    cell.view.expect_box("clean", "running")
    cell.view.expect_box("validate", "pending")
    cell.view.expect_box("save", "pending")
    notebook.open_gate(gate)
    for label in ("clean", "validate", "join", "save"):
        cell.view.expect_box(label, "success")
    cell.view.ends("success")
    cell.wait()


def test_a_failed_run_opens_at_what_failed_first(failed: Cell) -> None:
    """With the line of the user's own code, and what to type next."""
    failed.show()
    failed.view.ends("failure")
    failed.view.expect_box("validate", "failure")
    failed.view.expect_box("join", "skipped")
    for text in ("validate", "ValueError", "dep_time 2407 is not a time of day", "check_clock(row, bad, mended)"):
        expect(failed.view.aside).to_contain_text(text)
    for call in ("run.errors()", "run.resume()"):
        expect(failed.view.aside).to_contain_text(call)


def test_a_click_on_a_box_tells_of_it(succeeded: Cell) -> None:
    succeeded.show()
    succeeded.view.box("save").click()
    for text in ("save", "success", "dict of 1", "76"):
        expect(succeeded.view.aside).to_contain_text(text)
    succeeded.view.box("flights").click()
    expect(succeeded.view.aside).to_contain_text("reading flights.csv")
    expect(succeeded.view.aside).not_to_contain_text("dict of 1")


def test_cancel_stops_a_run_while_its_cell_blocks(notebook: Notebook) -> None:
    cell = notebook.start("flights_etl.run(gate='never')")
    cell.view.expect_box("clean", "running")
    cell.view.cancel.click()
    cell.view.ends("cancelled")
    cell.wait()
    expect(cell.view.cancel).to_have_count(0)


def test_retry_runs_what_failed_while_another_cell_blocks(notebook: Notebook) -> None:
    mended, enough = notebook.gate(), notebook.gate()
    cell = notebook.run(f"flights_etl.run(bad=[3], mended={mended!r})")
    cell.view.ends("failure")
    blocking = notebook.start(f"wait_for({enough!r})\nprint('over')")
    notebook.open_gate(mended)
    cell.show()
    cell.view.retry.click()
    cell.view.ends("success")
    cell.view.expect_box("save", "success")
    assert blocking.printed() == ""
    notebook.open_gate(enough)
    blocking.wait()


def test_each_phase_has_a_bar_with_its_name(succeeded: Cell) -> None:
    succeeded.show()
    for phase in ("extract", "transform", "load"):
        expect(succeeded.view.phase(phase)).to_have_attribute("aria-valuenow", re.compile("^100"))
