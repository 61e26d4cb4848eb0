"""Many runs in a notebook, one shown twice, cells run again, tabs closed, kernels restarted: all tell the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from .pages import Cell, Notebook, cleared

COUNTS = """
import threading
from comm import get_comm_manager


def counts():
    return [threading.active_count(), len(get_comm_manager().comms)]
"""


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


def test_a_cell_that_is_run_again_shows_the_new_run_alone_and_leaves_nothing_of_the_old(notebook: Notebook) -> None:
    """Neither threads nor comms."""
    notebook.run(COUNTS)
    cell = notebook.cell("run = flights_etl.run(bad=[] if Path('again').exists() else [0])\nrun").run()
    cell.view.ends("failure")
    before = notebook.ask("counts()")
    notebook.open_gate("again")
    for _ in range(2):
        cell.run()
        cell.view.ends("success")
    expect(cell.root).to_have_count(1)
    expect(cell.root).to_contain_text(notebook.ask("run.id"))
    ended = notebook.run(
        f"""
        until = time.monotonic() + 10
        while not all(now <= then for now, then in zip(counts(), {before})) and time.monotonic() < until:
            time.sleep(0.05)
        print(counts())
        """
    )
    assert all(now <= then for now, then in zip(json.loads(ended.printed()), before, strict=True))


@pytest.fixture
def alone(seven: Notebook) -> Iterator[Notebook]:
    """A notebook in a tab of its own, which a test may close or whose kernel it may restart."""
    yield from cleared(seven)


def test_a_tab_that_is_closed_and_opened_again_goes_on_showing_the_run(alone: Notebook) -> None:
    gate = alone.gate()
    at = alone.run(f"run = flights_etl.submit(gate={gate!r})\nrun").at
    alone.save()
    alone.reopen()
    cell = Cell(alone, at).show()
    cell.view.expect_box("clean", "running")
    alone.open_gate(gate)
    cell.view.ends("success")
    expect(cell.root).to_have_count(1)


def test_a_tab_that_is_opened_again_while_a_cell_blocks_shows_the_run(alone: Notebook) -> None:
    gate = alone.gate()
    cell = alone.start(f"flights_etl.run(gate={gate!r})")
    cell.view.expect_box("clean", "running")
    cell.is_kept()
    alone.save()
    alone.reopen()
    again = Cell(alone, cell.at).show()
    expect(again.root).to_have_count(1)
    expect(again.view.status).to_contain_text("running")
    alone.open_gate(gate)
    again.view.ends("success")
    again.view.expect_box("save", "success")


def test_after_a_restart_the_cell_shows_how_the_run_stood_and_attach_shows_it_live(alone: Notebook) -> None:
    gate = alone.gate()
    old = alone.run(f"run = flights_etl.submit(gate={gate!r})\nrun")
    old.view.expect_box("clean", "running")
    old.is_kept()
    run_id = alone.ask("run.id")
    alone.save()
    alone.restart()
    expect(old.show().output.get_by_role("button", name="Cancel", exact=True, disabled=False)).to_have_count(0)

    alone.reopen()
    old = Cell(alone, old.at).show()
    expect(old.root.locator("img")).to_be_visible()
    expect(old.view.status).to_contain_text("running")
    for text in ("So it was at", f"cf.attach('{run_id}')"):
        expect(old.output).to_contain_text(text)
    expect(old.output).not_to_contain_text("widget")

    new = alone.run(f"import celeryflow as cf\ncf.attach({run_id!r})")
    new.view.expect_box("clean", "running")
    alone.open_gate(gate)
    new.view.ends("success")
    assert alone.ask(f"cf.attach({run_id!r}).result()") == {"total": 76}
