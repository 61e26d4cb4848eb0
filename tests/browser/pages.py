"""A notebook in a page, its cells, and the view of a run under one of them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Locator, Page, expect

from celeryflow.view.words import TIMES

from .cells import FLIGHTS
from .jupyter import TOKEN, Server

EMPTY = {
    "cells": [],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class View:
    """The picture of a run with all around it: in the output of a cell."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.boxes = root.locator("g.node")
        self.status = root.locator(".cf-chip")
        self.aside = root.locator(".cf-aside")
        self.cancel = self.button("Cancel")
        self.retry = self.button("Retry failed")
        self.canvas = root.locator(".cf-canvas")

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name, exact=True)

    def box(self, label: str) -> Locator:
        """The box of a step, by what it says of itself: ``clean: running, 212 / 336``."""
        return self.root.get_by_role("button", name=re.compile(rf"^{re.escape(label)}( {TIMES}|:)"))

    def phase(self, name: str) -> Locator:
        """The bar of a phase."""
        return self.root.get_by_role("progressbar", name=name)

    def ends(self, status: str) -> None:
        """Wait until the run is shown to have ended so."""
        expect(self.status).to_contain_text(status)

    def expect_box(self, label: str, state: str) -> None:
        """Wait until a box is in a state."""
        expect(self.box(label)).to_have_class(re.compile(rf"\b{state}\b"))


class Cell:
    """A cell of a notebook that is open in a page."""

    def __init__(self, notebook: Notebook, at: int) -> None:
        self.notebook, self.at = notebook, at
        self.mark = f"{notebook.path}:{at}"
        self.output = notebook.page.locator(f'[data-test-cell="{self.mark}"] .jp-Cell-outputArea')
        self.root = self.output.locator("section.celeryflow")
        self.view = View(self.root)

    def show(self) -> Cell:
        """Scroll to it."""
        self.notebook.drive("show", [self.at, self.mark])
        return self

    def start(self) -> Cell:
        """Run it and do not wait."""
        self.notebook.drive("start", [self.at, self.mark])
        return self

    def wait(self) -> Cell:
        """Wait until it has been run."""
        self.notebook.page.evaluate("() => window.driver.done")
        return self

    def run(self) -> Cell:
        """Run it to its end, which must not be an error."""
        self.start().wait()
        errors = [output for output in self.outputs() if output["output_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        return self

    def is_kept(self) -> Cell:
        """Wait until what the notebook keeps of a run stands there, in whose place the live view then is."""
        expect(self.output.locator(".cf-slot section.cf-live")).to_have_count(1)
        return self

    def outputs(self) -> list[dict[str, Any]]:
        """What the notebook would store of it."""
        found: list[dict[str, Any]] = self.notebook.drive("outputs", self.at)
        return found

    def printed(self) -> str:
        """What it printed."""
        return "".join(output["text"] for output in self.outputs() if output["output_type"] == "stream")


class Notebook:
    """A notebook that is open in a page, with a kernel of its own."""

    def __init__(self, page: Page, server: Server, path: str) -> None:
        self.page, self.server, self.path = page, server, path
        self.kernel_id: str = self.drive("open", path)
        self.drive("ready")

    @property
    def file(self) -> Path:
        """Where it is saved."""
        return self.server.directory / self.path

    @property
    def kernel(self) -> psutil.Process:
        """The process of its kernel."""
        return self.server.kernel(self.kernel_id)

    def drive(self, name: str, argument: Any = None) -> Any:
        """Call a function of driver.js."""
        return self.page.evaluate("([name, argument]) => window.driver[name](argument)", [name, argument])

    def cell(self, source: str) -> Cell:
        """A new cell at the end."""
        return Cell(self, self.drive("add", textwrap.dedent(source).strip()))

    def run(self, source: str) -> Cell:
        """Run a new cell to its end."""
        return self.cell(source).run()

    def start(self, source: str) -> Cell:
        """Run a new cell and do not wait."""
        return self.cell(source).start()

    def ask(self, expression: str) -> Any:
        """The value of an expression in the kernel, by way of JSON."""
        return json.loads(self.run(f"import json\nprint(json.dumps({expression}))").printed())

    def gate(self) -> str:
        """Name of a file that steps can wait for."""
        return self.server.gate()

    def open_gate(self, name: str) -> None:
        """Make that file."""
        (self.server.directory / name).touch()

    def interrupt(self) -> None:
        """Interrupt its kernel, as the square button does."""
        self.page.evaluate("() => window.driver.kernel.interrupt()")

    def save(self) -> dict[str, Any]:
        """Save it; what is in the file then."""
        self.drive("save")
        saved: dict[str, Any] = json.loads(self.file.read_text())
        return saved

    def show(self) -> None:
        """Bring it to the front, before others that were opened in its page."""
        self.drive("open", self.path)

    def restart(self) -> None:
        """Restart its kernel, which forgets everything."""
        self.drive("restart")

    def reopen(self) -> None:
        """Close its tab, and open it in another, whether or not its kernel is busy: a notebook in Notebook 7."""
        context = self.page.context
        self.page.close()
        self.page = context.new_page()
        self.page.goto(address(self.server, "notebook", self.path))
        self.kernel_id = self.drive("open", self.path)

    def clear(self) -> None:
        """Take all cells out of it, and stop what runs."""
        self.drive("clear")

    def close(self) -> None:
        """Close it, and end its kernel."""
        self.drive("close")


def cleared(notebook: Notebook) -> Iterator[Notebook]:
    """A notebook that others use, too: at first its kernel knows `FLIGHTS`, and in the end its cells are gone."""
    notebook.page.bring_to_front()
    notebook.run(FLIGHTS)
    yield notebook
    notebook.clear()


def create(server: Server, name: str) -> str:
    """A new notebook without cells; its path."""
    (server.directory / f"{name}.ipynb").write_text(json.dumps(EMPTY))
    return f"{name}.ipynb"


def address(server: Server, front_end: str, path: str) -> str:
    """Where a notebook is shown; without one, JupyterLab alone."""
    place = {
        "lab": f"lab/workspaces/{Path(path).stem}/tree/{path}" if path else "lab",
        "notebook": f"notebooks/{path}",
    }[front_end]
    return f"{server.url}/{place}?token={TOKEN}"
