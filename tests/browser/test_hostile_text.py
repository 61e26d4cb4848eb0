"""Names, outputs and errors that would do harm if a page took them for anything but text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile import HOSTILE
from playwright.sync_api import Dialog, Request, expect

from .pages import Cell, Notebook

RUN = """
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
    names = [text.encode(errors="replace").decode() for text in texts]  # what no encoding has is no name
    for number, (name, text) in enumerate(zip(names, texts)):
        with cf.phase(name if name.strip() and number % 10 == 0 else f"phase {number // 10}"):
            step_named(name)(text, number % 2 == 0)
    step_named(names[0]).map(dict(zip(names, texts)), True)


run = hostile.run(HOSTILE)
run
"""
ALL = """async (root) => {
  const inside = root.querySelector(".cf-inside");
  const found = [];
  for (const box of root.querySelectorAll("g.node")) {
    box.focus();
    box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
    const isAnswered = () => box.classList.contains("selected") && inside.textContent !== "…";
    while (!isAnswered()) await new Promise((wake) => requestAnimationFrame(wake));
    found.push(...window.driver.harms(root));
  }
  return found;
}"""
"""Opens every box and waits for what the kernel tells of it."""


@pytest.fixture(scope="module")
def events(notebook: Notebook) -> Iterator[list[str]]:
    """Whatever a script could have done that a browser notices: dialogs, and requests to elsewhere."""
    found: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        found.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            found.append(f"request {request.url}")

    notebook.page.on("dialog", on_dialog)
    notebook.page.on("request", on_request)
    yield found
    notebook.page.remove_listener("dialog", on_dialog)
    notebook.page.remove_listener("request", on_request)


@pytest.fixture(scope="module")
def shown(notebook: Notebook, events: list[str]) -> Cell:
    """A run that says all of them everywhere."""
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
    expect(shown.view.boxes).to_have_count(51)
    shown.view.boxes.first.press("Escape")
    expect(shown.root.locator("g.node.selected")).to_have_count(0)
    assert shown.root.evaluate(ALL) == []
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
    names = page.notebook.page.evaluate("() => [typeof window.hacked, typeof window.pwned]")
    assert names == ["undefined", "undefined"]
    assert events == []
