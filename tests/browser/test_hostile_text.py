"""Names, outputs and errors that would do harm if a page took them for anything but text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hostile import HOSTILE
from playwright.sync_api import Dialog, Page, Request, expect

from .pages import Cell, Notebook

RUN = """
import celeryflow as cf


def step_named(name):
    def act(text, fails):
        print(text)
        if fails:
            raise ValueError(text)
        return text
    act.__name__ = name
    return cf.step(act)


@cf.workflow
def hostile(texts):
    for number, text in enumerate(texts):
        name = text.encode(errors="replace").decode()  # what no encoding has may be said, but is no name
        with cf.phase(name if name.strip() and number % 10 == 0 else f"phase {number // 10}"):
            step_named(name)(text, number % 2 == 0)
            step_named("mapped").map({name: text}, number % 3 == 0)


run = hostile.run(HOSTILE)
run
"""


@pytest.fixture(scope="module")
def events(lab: Page) -> Iterator[list[str]]:
    """Whatever a script could have done that a browser notices: dialogs, and requests to elsewhere."""
    found: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        found.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            found.append(f"request {request.url}")

    lab.on("dialog", on_dialog)
    lab.on("request", on_request)
    yield found
    lab.remove_listener("dialog", on_dialog)
    lab.remove_listener("request", on_request)


@pytest.fixture(scope="module")
def shown(opened: Callable[..., Notebook], events: list[str]) -> Cell:
    """A run that says all of them everywhere."""
    notebook = opened("hostile")
    notebook.run(f"HOSTILE = {HOSTILE!r}")
    cell = notebook.run(RUN)
    cell.view.ends("failure")
    return cell


def harms(cell: Cell) -> list[str]:
    found: list[str] = cell.output.evaluate("(root) => window.driver.harms(root)")
    return found


def test_no_name_and_no_error_becomes_markup(shown: Cell, events: list[str]) -> None:
    assert harms(shown) == []
    assert events == []


def test_no_detail_of_any_step_becomes_markup(shown: Cell, events: list[str]) -> None:
    """Every box is opened: inputs, outputs, errors and logs are there to be read, as text."""
    for at in range(shown.view.boxes.count()):
        box = shown.view.boxes.nth(at)
        box.focus()
        box.press("Enter")
        expect(shown.view.aside.get_by_text("…", exact=True)).to_have_count(0)  # it has been answered
        assert harms(shown) == []
    assert events == []


def test_the_log_of_all_steps_is_text(shown: Cell, events: list[str]) -> None:
    shown.view.button("Log").click()
    shown.root.get_by_text("alert").first.wait_for(state="attached")
    assert harms(shown) == []
    assert events == []


def test_the_static_page_is_text_too(shown: Cell, events: list[str]) -> None:
    page = shown.notebook.run("from IPython.display import HTML\nHTML(run._repr_html_())")
    assert page.output.locator("section.celeryflow").count() == 1
    assert harms(page) == []
    assert events == []


def test_no_script_changed_the_page(shown: Cell, events: list[str]) -> None:
    names = shown.notebook.page.evaluate("() => [document.title, typeof window.hacked, typeof window.pwned]")
    assert names[1:] == ["undefined", "undefined"]
    assert events == []
