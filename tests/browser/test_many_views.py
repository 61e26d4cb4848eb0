"""Many runs in a notebook, one shown twice, cells run again, tabs closed, kernels restarted: all tell the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from .cells import FLIGHTS
from .jupyter import Server
from .pages import Cell, Notebook, address

COUNTS = """
import threading
from comm import get_comm_manager


def counts():
    return [threading.active_count(), len(get_comm_manager().comms)]
"""


@pytest.fixture(scope="module")
def notebook(opened: Callable[..., Notebook]) -> Notebook:
    notebook = opened("many-views")
    notebook.run(FLIGHTS)
    notebook.run(COUNTS)
    return notebook


def test_a_run_that_is_shown_twice_says_the_same_in_both_places(notebook: Notebook) -> None:
    gate = notebook.gate()
    first = notebook.run(f"twice = flights_etl.submit(gate={gate!r})\ntwice")
    second = notebook.run("twice")
    for cell in (first, second):
        cell.view.expect_box("clean", "running")
    notebook.open_gate(gate)
    for cell in (first, second):
        expect(cell.root).to_have_count(1)
        cell.view.ends("success")
        cell.view.expect_box("save", "success")


def test_runs_beside_each_other_stay_under_their_own_cells(notebook: Notebook) -> None:
    gate = notebook.gate()
    waiting = notebook.run(f"flights_etl.submit(rows=1, gate={gate!r})")  # leaves a worker free
    failing = notebook.run("flights_etl.run(bad=[0])")
    failing.view.ends("failure")
    waiting.view.expect_box("clean", "running")
    notebook.open_gate(gate)
    waiting.view.ends("success")
    failing.view.ends("failure")
    for cell in (waiting, failing):
        expect(cell.root).to_have_count(1)


def test_a_cell_that_is_run_again_shows_the_new_run_alone(notebook: Notebook) -> None:
    cell = notebook.cell("import os\nrun = flights_etl.run(bad=[0] if not os.path.exists('again') else [])\nrun").run()
    cell.view.ends("failure")
    notebook.open_gate("again")
    cell.run()
    expect(cell.root).to_have_count(1)
    cell.view.ends("success")
    assert notebook.ask("run.id") in cell.root.inner_text()


def test_finished_views_leave_no_thread_behind(notebook: Notebook) -> None:
    notebook.run("flights_etl.run()").view.ends("success")
    threads = notebook.ask("counts()")[0]
    for _ in range(3):
        notebook.run("flights_etl.run()").view.ends("success")
    ended = notebook.run(
        f"""
        import time
        until = time.monotonic() + 10
        while threading.active_count() > {threads} and time.monotonic() < until:
            time.sleep(0.05)
        """
    )
    assert ended.printed() == ""
    assert notebook.ask("counts()")[0] <= threads


def test_a_cell_that_is_run_again_and_again_leaves_no_comm_behind(notebook: Notebook) -> None:
    cell = notebook.cell("flights_etl.run()").run()
    cell.view.ends("success")
    cell.run()
    cell.view.ends("success")
    before = notebook.ask("counts()")[1]
    for _ in range(3):
        cell.run()
        cell.view.ends("success")
    assert notebook.ask("counts()")[1] <= before


@pytest.fixture
def alone(browser: BrowserContext, opened: Callable[..., Notebook], server: Server) -> Iterator[Notebook]:
    """A notebook in a page of its own, which a test may close or whose kernel it may restart."""
    notebook = opened("alone", "notebook")
    notebook.run(FLIGHTS)
    yield notebook


def reopened(notebook: Notebook, browser: BrowserContext) -> Notebook:
    """The same notebook in another tab, after its tab was closed."""
    notebook.page.close()
    page = browser.new_page()
    page.goto(address(notebook.server, "notebook", notebook.path))
    return Notebook(page, notebook.server, notebook.path)


def test_a_tab_that_is_closed_and_opened_again_goes_on_showing_the_run(
    alone: Notebook, browser: BrowserContext
) -> None:
    gate = alone.gate()
    at = alone.run(f"run = flights_etl.submit(gate={gate!r})\nrun").at
    alone.save()
    again = reopened(alone, browser)
    cell = Cell(again, at).show()
    cell.view.expect_box("clean", "running")
    alone.open_gate(gate)
    cell.view.ends("success")
    expect(cell.root).to_have_count(1)
    again.close()
    again.page.close()


def test_after_a_restart_the_old_view_offers_nothing_and_attach_has_a_new_one(alone: Notebook) -> None:
    gate = alone.gate()
    old = alone.run(f"run = flights_etl.submit(gate={gate!r})\nrun")
    old.view.expect_box("clean", "running")
    run_id = alone.ask("run.id")
    alone.drive("restart")
    new = alone.run(f"import celeryflow as cf\ncf.attach({run_id!r})")
    new.view.expect_box("clean", "running")
    enabled = old.output.get_by_role("button", name="Cancel", exact=True, disabled=False)
    old.show()
    expect(enabled).to_have_count(0)
    alone.open_gate(gate)
    new.show()
    new.view.ends("success")
    assert alone.ask(f"cf.attach({run_id!r}).result()") == {"total": 76}
