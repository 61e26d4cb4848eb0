"""Light and dark, for those who see few colours, who listen, and who do not want things to move."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from .cells import STATES
from .pages import Cell, Notebook


@pytest.fixture(scope="module")
def views(notebook: Notebook) -> Iterator[list[Cell]]:
    """A run that waits in the middle, one that failed, one that was cancelled, one that is over."""
    running = notebook.run("waiting = flights_etl.submit(rows=1, gate='never')\nwaiting")  # leaves a worker free
    running.view.expect_box("clean", "running")
    failed = notebook.run("flights_etl.run(bad=[7])")
    cancelled = notebook.run("stopped = flights_etl.submit(rows=1, gate='never')\nstopped.cancel()\nstopped.wait()")
    succeeded = notebook.run("flights_etl.run()")
    for cell, status in ((failed, "failure"), (cancelled, "cancelled"), (succeeded, "success")):
        cell.view.ends(status)
    cells = [running, failed, cancelled, succeeded]
    for cell in cells:
        cell.show().is_kept()
    yield cells
    notebook.run("waiting.cancel()")


@pytest.fixture(params=["JupyterLab Light", "JupyterLab Dark"])
def theme(request: pytest.FixtureRequest, notebook: Notebook) -> Iterator[str]:
    notebook.drive("theme", request.param)
    yield request.param
    notebook.drive("theme", "JupyterLab Light")


def test_every_text_has_the_contrast_of_aa(theme: str, views: list[Cell]) -> None:
    """4.5 to 1, which WCAG 2 asks of small text."""
    for cell in views:
        cell.show()
        expect(cell.view.boxes.first).to_be_visible()
        found = cell.root.evaluate("(root) => window.driver.contrasts(root)")
        assert len(found) > 20
        assert [each for each in found if each["contrast"] < 4.5] == [], theme


def test_the_view_is_as_dark_as_the_notebook(theme: str, views: list[Cell]) -> None:
    views[0].show()
    source = "(e) => getComputedStyle(e).getPropertyValue('background-color').match(/[0-9]+/g).slice(0, 3).map(Number)"
    background = views[0].root.evaluate(source)
    assert (sum(background) < 3 * 80) == (theme == "JupyterLab Dark")


def test_each_state_has_a_sign_besides_its_colour(views: list[Cell]) -> None:
    signs: dict[str, set[str]] = {}
    for cell in views:
        cell.show()
        for box in cell.view.boxes.all():
            [state] = set((box.get_attribute("class") or "").split()) & set(STATES)
            signs.setdefault(state, set()).add(box.locator(".glyph").text_content() or "")
    assert {"pending", "running", "success", "failure", "skipped", "cancelled"} <= set(signs)
    assert all(len(found) == 1 for found in signs.values()), signs
    distinct = [min(signs[state]) for state in ("pending", "running", "success", "failure", "skipped")]
    assert len(set(distinct)) == len(distinct)


def test_the_view_is_a_group_with_the_name_of_its_run(views: list[Cell]) -> None:
    group = views[0].show().output.get_by_role("group", name="run of flights_etl", exact=True)
    expect(group).to_have_count(1)


def test_each_box_is_a_button_that_says_its_state(views: list[Cell]) -> None:
    running = views[0].show().view
    expect(running.box("clean")).to_have_attribute("aria-label", re.compile(r": running, 0 / 1"))
    expect(running.box("save")).to_have_attribute("aria-label", re.compile(r"^save: pending"))


def test_bars_say_how_far_their_phase_is(views: list[Cell]) -> None:
    running = views[0].show().view
    expect(running.phase("extract")).to_have_attribute("aria-valuenow", "100")
    expect(running.phase("load")).to_have_attribute("aria-valuenow", "0")


def test_the_end_of_a_run_is_told_politely(notebook: Notebook) -> None:
    gate = notebook.gate()
    cell = notebook.run(f"told = flights_etl.submit(gate={gate!r})\ntold")
    region = cell.root.locator('[role="status"][aria-live="polite"]')
    expect(region).to_have_count(1)
    expect(region).not_to_contain_text("success")
    notebook.open_gate(gate)
    expect(region).to_contain_text("success")


def test_nothing_moves_for_those_who_want_it_so(views: list[Cell], notebook: Notebook) -> None:
    moving = """(root) => [root, ...root.querySelectorAll("*")].filter((element) => {
        const style = getComputedStyle(element);
        const lasts = (text) => text.split(",").some((each) => parseFloat(each) > 0.001);
        return (style.animationName !== "none" && lasts(style.animationDuration)) || lasts(style.transitionDuration);
    }).map((element) => element.outerHTML.slice(0, 100))"""
    notebook.page.emulate_media(reduced_motion="reduce")
    views[0].show()
    assert views[0].root.evaluate(moving) == []
    notebook.page.emulate_media(reduced_motion=None)
