"""One browser and one Jupyter server for all of these tests; a page and a kernel for each of the two front ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import Runtime
from playwright.sync_api import BrowserContext, Error, Locator, expect, sync_playwright

from .jupyter import Server
from .pages import Notebook, address, cleared, create

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
    "--no-sandbox",
)
TIMEOUT_MS = 60_000
SCREENSHOTS = "CELERYFLOW_SCREENSHOTS"
"""Variable with the directory that screenshots for the documents go to."""


def absent(what: str) -> NoReturn:
    """End a test for want of a browser: on CI it fails."""
    notice = f"{what} On Debian: apt-get install chromium libatomic1 fonts-dejavu-core"
    if os.environ.get("CI"):
        pytest.fail(notice)
    pytest.skip(notice)


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Chromium, with a profile of its own and nowhere to go but this machine."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        absent("These tests need Chromium.")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        try:
            context = playwright.chromium.launch_persistent_context(
                tmp_path_factory.mktemp("profile"),
                executable_path=program,
                args=FLAGS,
                viewport={"width": 1280, "height": 900},
                color_scheme="light",
            )
        except Error as error:
            absent(f"{program} does not start: {error.message}.")
        context.set_default_timeout(TIMEOUT_MS)
        context.add_init_script(path=Path(__file__).parent / "driver.js")
        yield context
        context.close()


@pytest.fixture(scope="package")
def server(
    browser: BrowserContext, shared_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Jupyter in the directory of the runtime that all tests share."""
    server = Server(tmp_path_factory.mktemp("jupyter"), shared_runtime.directory, shared_runtime.state)
    yield server
    assert server.stop() == []


@pytest.fixture(autouse=True)
def no_gate_stays_closed(server: Server) -> Iterator[None]:
    """A test that fails leaves kernel and workers free for the next one."""
    yield
    server.open_gates()


@pytest.fixture(scope="package")
def lab(browser: BrowserContext, server: Server) -> Iterator[Notebook]:
    """A notebook in JupyterLab, with a kernel that all tests there share."""
    page = browser.new_page()
    page.goto(address(server, "lab", ""))
    yield from closing(Notebook(page, server, create(server, "flights")))


@pytest.fixture(scope="package")
def seven(browser: BrowserContext, server: Server) -> Iterator[Notebook]:
    """The same in Notebook 7."""
    page, path = browser.new_page(), create(server, "seven")
    page.goto(address(server, "notebook", path))
    yield from closing(Notebook(page, server, path))


def closing(notebook: Notebook) -> Iterator[Notebook]:
    yield notebook
    notebook.close()
    notebook.page.close()


@pytest.fixture(scope="module")
def notebook(lab: Notebook) -> Iterator[Notebook]:
    """A notebook for the tests of a file: its kernel is warm and knows `FLIGHTS`, and its cells go with the file."""
    yield from cleared(lab)


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Locator, str], Path]:
    """Takes a picture of a part of a page, for the documents where `SCREENSHOTS` names their directory."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)

    def take(shown: Locator, name: str) -> Path:
        path = folder / f"{name}.png"
        shown.screenshot(path=path, animations="disabled", scale="css")
        return path

    return take
