"""What stays of a view: in the saved notebook, in its HTML, and where it is opened without the kernel that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Page, expect

from .pages import Cell, Notebook, create

SECRET = "hunter2-0123456789"
LOGIN = f"""
@cf.step
def fetch(password):
    return password[::-1]


@cf.workflow
def login(password):
    with cf.phase("fetch"):
        return fetch(password)


run = login.run({SECRET!r})
run
"""


@pytest.fixture(scope="module")
def saved(notebook: Notebook) -> dict[str, Any]:
    """The file of a notebook with a run that failed, one that succeeded, and one that a cell shows twice."""
    notebook.run("flights_etl.run(bad=[2])").view.ends("failure")
    cell = notebook.run(LOGIN)
    cell.view.ends("success")
    cell.view.box("fetch").click()
    expect(cell.view.aside).to_contain_text(SECRET)  # to be seen, and yet not kept
    return notebook.save()


@pytest.fixture(scope="module")
def exported(saved: dict[str, Any], notebook: Notebook) -> Iterator[Page]:
    """The notebook as nbconvert's HTML, in a page."""
    shown, _ = HTMLExporter().from_filename(notebook.file)
    target = notebook.file.with_suffix(".html")
    target.write_text(shown)
    page = notebook.page.context.new_page()
    page.goto(target.as_uri(), wait_until="domcontentloaded")
    yield page
    page.close()


def test_a_saved_notebook_has_the_picture_as_html_and_as_text(saved: dict[str, Any]) -> None:
    shown = [bundles(cell) for cell in saved["cells"] if bundles(cell)]
    assert len(shown) == 2
    for found in shown:
        pages = ["".join(bundle["text/html"]) for bundle in found if "text/html" in bundle]
        assert sum("data:image/svg+xml;base64," in page for page in pages) == 1
        assert any(
            "transform" in "".join(bundle["text/plain"]) or "fetch" in "".join(bundle["text/plain"]) for bundle in found
        )


def bundles(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """The rich outputs of a cell of a file."""
    return [output["data"] for output in cell.get("outputs", []) if "data" in output]


def test_a_saved_notebook_has_the_final_states(saved: dict[str, Any]) -> None:
    text = json.dumps(saved)
    assert "✕ failure" in json.loads(json.dumps(text)) or "failure" in text
    assert "running" not in "".join(
        "".join(bundle.get("text/plain", "")) for cell in saved["cells"] for bundle in bundles(cell)
    )


def test_a_saved_notebook_has_no_values_of_arguments_or_results(saved: dict[str, Any]) -> None:
    outputs = json.dumps([cell.get("outputs", []) for cell in saved["cells"]])
    assert SECRET not in outputs
    assert SECRET[::-1] not in outputs


def test_a_saved_notebook_has_no_widget_state(saved: dict[str, Any]) -> None:
    assert "widgets" not in saved["metadata"]


def test_exported_html_shows_the_final_picture_and_the_phases(exported: Page) -> None:
    failed, succeeded = exported.locator("section.celeryflow:visible").all()
    for section in (failed, succeeded):
        [picture] = section.locator(".cf-canvas img").all()
        assert picture.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }") > 100
    for phase in ("extract", "transform", "load"):
        expect(failed.locator(".cf-rows")).to_contain_text(phase)
    expect(failed.locator(".cf-chip")).to_contain_text("failure")
    expect(succeeded.locator(".cf-chip")).to_contain_text("success")


def test_exported_html_says_nothing_of_widgets_that_are_not_there(exported: Page) -> None:
    text = exported.locator("body").inner_text()
    assert "widget" not in text.lower()


def test_a_saved_notebook_that_is_opened_with_another_kernel_shows_the_final_picture(
    saved: dict[str, Any], notebook: Notebook
) -> None:
    path = create(notebook.server, "copy")
    (notebook.server.directory / path).write_text(json.dumps(saved))
    copy = Notebook(notebook.page, notebook.server, path)
    at = next(at for at, cell in enumerate(saved["cells"]) if bundles(cell))
    cell = Cell(copy, at).show()
    expect(cell.output.locator("section.celeryflow:visible")).to_have_count(1)
    expect(cell.output.locator("section.celeryflow:visible .cf-chip")).to_contain_text("failure")
    expect(cell.output.get_by_text("widget")).to_have_count(0)
    copy.close()
    notebook.show()


def test_the_text_of_a_cell_that_prints_a_run_has_no_control_codes(notebook: Notebook) -> None:
    printed = notebook.run("print(flights_etl.submit().wait())").printed()
    assert "success" in printed
    assert "\x1b" not in printed


def test_the_drawing_before_a_run_is_a_picture(notebook: Notebook) -> None:
    cell = notebook.run("flights_etl.draw()")
    picture = cell.output.locator("img")
    expect(picture).to_have_count(1)
    assert picture.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }") > 300
    assert Path(notebook.file).exists()
