"""Looking into a run by mouse and by keyboard: boxes, what hangs on them, details, zoom, collapsed phases."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from .pages import Cell, Notebook

TABLES = """
import pandas as pd


@cf.step
def read(rows):
    return pd.DataFrame({"carrier": ["UA", "AA"] * (rows // 2), "delay": range(1000, 1000 + rows)})


@cf.step
def aggregate(table, note):
    print("aggregating")
    return table.groupby("carrier").mean()


@cf.workflow
def tables():
    return aggregate(read(4000), "by <b>carrier</b>")
"""
LARGE = """
@cf.step
def one(*before):
    return 1


@cf.workflow
def large(phases, steps):
    last = []
    for phase in range(phases):
        with cf.phase(f"phase {phase}"):
            last = [one(*last[:1]) for _ in range(steps)]
    return last
"""


@pytest.fixture(scope="module")
def succeeded(notebook: Notebook) -> Cell:
    cell = notebook.run("flights_etl.run()")
    cell.view.ends("success")
    return cell


@pytest.fixture
def shown(succeeded: Cell) -> Cell:
    """The cell of a finished run, in view, with nothing selected."""
    succeeded.show()
    succeeded.view.button("Fit").click()
    succeeded.view.boxes.first.press("Escape")
    expect(succeeded.root.locator("g.node.selected")).to_have_count(0)
    return succeeded


def has_focus(box: Locator) -> None:
    expect(box).to_be_focused()


# --- keyboard --------------------------------------------------------------------------------


def test_tab_reaches_a_box_and_enter_opens_it(shown: Cell) -> None:
    keyboard = shown.notebook.page.keyboard
    shown.view.button("Log").focus()
    keyboard.press("Tab")
    expect(shown.root.locator("g.node:focus")).to_have_count(1)
    label = (shown.root.locator("g.node:focus").get_attribute("aria-label") or "").partition(":")[0]
    keyboard.press("Enter")
    expect(shown.root.locator("g.node.selected")).to_have_count(1)
    expect(shown.view.aside).to_contain_text(label.partition(" ")[0])


def test_arrow_keys_go_along_the_arrows(shown: Cell) -> None:
    keyboard = shown.notebook.page.keyboard
    shown.view.box("flights").focus()
    keyboard.press("ArrowRight")
    has_focus(shown.view.box("clean"))
    keyboard.press("ArrowRight")
    has_focus(shown.view.box("validate"))
    keyboard.press("ArrowLeft")
    has_focus(shown.view.box("clean"))


def test_arrow_keys_go_up_and_down_among_neighbours(shown: Cell) -> None:
    keyboard = shown.notebook.page.keyboard
    shown.view.box("flights").focus()
    keyboard.press("ArrowDown")
    has_focus(shown.view.box("weather"))
    keyboard.press("ArrowUp")
    has_focus(shown.view.box("flights"))


def test_keys_in_the_picture_do_not_reach_the_notebook(shown: Cell) -> None:
    """In command mode the arrows would go to other cells, Enter would edit one, and D D delete it."""
    notebook = shown.notebook
    state = "() => { const n = window.driver.panel.content; return [n.activeCellIndex, n.mode, n.widgets.length]; }"
    before = notebook.page.evaluate(state)
    shown.view.box("flights").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Enter", "Escape", "ArrowRight", "Space"):
        notebook.page.keyboard.press(key)
    assert notebook.page.evaluate(state) == before


def test_the_box_with_the_focus_is_seen(shown: Cell) -> None:
    box = shown.view.box("clean")
    shown.notebook.page.keyboard.press("Tab")  # focus by keyboard, not by mouse
    before = looks(box)
    box.focus()
    shown.notebook.page.keyboard.press("ArrowRight")
    shown.notebook.page.keyboard.press("ArrowLeft")
    has_focus(box)
    assert looks(box) != before


def looks(box: Locator) -> list[str]:
    """How the outline of a box is drawn."""
    names = ["outlineStyle", "outlineWidth", "stroke", "strokeWidth"]
    source = "(box, names) => [box, box.querySelector('.box')].flatMap(e => names.map(n => getComputedStyle(e)[n]))"
    found: list[str] = box.evaluate(source, names)
    return found


# --- what hangs on what ----------------------------------------------------------------------


def test_a_selected_box_highlights_its_ancestors_and_descendants(shown: Cell) -> None:
    shown.view.box("validate").click()
    expect(shown.view.box("validate")).to_have_class(re.compile(r"\bselected\b"))
    for label in ("flights", "clean", "join", "save"):
        expect(shown.view.box(label)).to_have_class(re.compile(r"\brelated\b"))
    expect(shown.view.box("weather")).not_to_have_class(re.compile(r"\b(related|selected)\b"))


def test_the_highlight_is_seen_and_goes_with_escape(shown: Cell) -> None:
    """What has nothing to do with it is drawn paler, and its words are as well to be read as before."""
    weather, flights = (shown.view.box(label).locator(".box") for label in ("weather", "flights"))
    shown.view.box("validate").click()
    expect(weather).to_have_css("stroke-opacity", "0.4")
    expect(flights).to_have_css("stroke-opacity", "1")
    assert all(each["contrast"] >= 4.5 for each in shown.root.evaluate("(root) => window.driver.contrasts(root)"))
    shown.notebook.page.keyboard.press("Escape")
    expect(shown.root.locator("g.node.selected")).to_have_count(0)
    expect(weather).to_have_css("stroke-opacity", "1")


# --- details ---------------------------------------------------------------------------------


def test_a_data_frame_is_shown_as_its_head(notebook: Notebook) -> None:
    notebook.run(TABLES)
    cell = notebook.run("tables.run()")
    cell.view.ends("success")
    cell.view.box("read").click()
    expect(cell.view.aside.get_by_text("carrier", exact=True).first).to_be_visible()
    expect(cell.view.aside).to_contain_text("1000")
    expect(cell.view.aside).not_to_contain_text("1999")
    assert len(cell.view.aside.inner_text()) < 5000


def test_inputs_are_shown_by_their_names_as_they_are(notebook: Notebook) -> None:
    cell = notebook.run(f"{TABLES}\ntables.run()")
    cell.view.ends("success")
    cell.view.box("aggregate").click()
    for text in ("table", "note", "by <b>carrier</b>", "aggregating"):
        expect(cell.view.aside).to_contain_text(text)


def test_the_log_follows_what_the_steps_print(notebook: Notebook) -> None:
    gate = notebook.gate()
    cell = notebook.start(f"flights_etl.run(gate={gate!r})")
    cell.view.button("Log").click()
    expect(cell.root).to_contain_text("reading flights.csv")
    notebook.open_gate(gate)
    expect(cell.root).to_contain_text("row 11 is clean")
    cell.wait()


# --- zoom and pan ----------------------------------------------------------------------------


def width(cell: Cell) -> float:
    """How wide the picture is. Of a box this would change with its outline, too."""
    place = cell.root.locator("svg.cf-dag").bounding_box()
    assert place is not None
    return place["width"]


def test_zoom_in_makes_the_picture_larger_and_fit_puts_it_back(shown: Cell) -> None:
    before = width(shown)
    shown.view.button("Zoom in").click()
    shown.view.button("Zoom in").click()
    larger = width(shown)
    shown.view.button("Zoom out").click()
    smaller = width(shown)
    shown.view.button("Fit").click()
    assert before < smaller < larger
    assert width(shown) == pytest.approx(before, rel=0.01)


def test_a_plain_wheel_scrolls_the_notebook_and_does_not_zoom(shown: Cell) -> None:
    before = width(shown)
    shown.view.box("flights").hover()
    shown.notebook.page.mouse.wheel(0, 60)
    assert width(shown) == pytest.approx(before, rel=0.001)


def test_the_picture_is_dragged(shown: Cell) -> None:
    for _ in range(4):
        shown.view.button("Zoom in").click()
    box, canvas = shown.view.boxes.first, shown.view.canvas.bounding_box()
    assert canvas is not None
    mouse, before = shown.notebook.page.mouse, box.bounding_box()
    assert before is not None
    mouse.move(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] - 12)
    mouse.down()
    mouse.move(canvas["x"] + canvas["width"] / 2 - 80, canvas["y"] + canvas["height"] - 12, steps=4)
    mouse.up()
    after = box.bounding_box()
    assert after is not None
    assert after["x"] == pytest.approx(before["x"] - 80, abs=8)


# --- large graphs ----------------------------------------------------------------------------


def test_over_500_nodes_phases_are_one_box_each_and_open_on_a_click(notebook: Notebook) -> None:
    notebook.run(LARGE)
    cell = notebook.run("large.run(6, 90)")
    cell.view.ends("success")
    expect(cell.view.boxes).to_have_count(6)
    cell.root.get_by_role("button", name=re.compile("^phase 2")).click()
    expect(cell.view.boxes).to_have_count(5 + 90)
    expect(cell.root.get_by_role("button", name=re.compile("^phase 3"))).to_have_count(1)
