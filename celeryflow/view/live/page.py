"""A display of a run under a cell: what the notebook keeps of it."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

from celeryflow.graph.model import Graph
from celeryflow.view import words
from celeryflow.view.html import html
from celeryflow.view.live.display import Display
from celeryflow.view.live.follower import Look
from celeryflow.view.live.where import Cell
from celeryflow.view.text import text

if TYPE_CHECKING:
    from celeryflow.view.live.browser import Browser

WIDGET = "application/vnd.jupyter.widget-view+json"
UNSEEN_S, PERIOD_S, SHARE_OF_A_CORE = 3.0, 2.0, 0.03
SHORT_S = 1.0
"""Of a run that is over so soon its end alone is kept."""

INSTALL = "For a live view: pip install anywidget ipywidgets, then restart the kernel."
INSTALL_THERE = "No live view: where Jupyter itself runs, pip install anywidget ipywidgets, then reload this page."


class Page:
    """One display of a run.

    At first it is the live view. After a moment it is the static page, without the widget, so that what is saved
    shows the run wherever it is opened, even if the kernel dies; and once more when the run is over. In the open
    notebook the live view takes the page's place by itself, as long as the kernel lives. Where the front end cannot do
    that the page comes with the run's end, and where none answers it is drawn anew from time to time.

    Parameters
    ----------
    graph, run_id
        Of the run.
    cell : Cell
        Under which it is.
    browser : Browser or None
        What shows the run in front ends; None where there are no widgets.
    is_text : bool
        Show plain text alone.
    """

    def __init__(self, graph: Graph, run_id: str, cell: Cell, browser: Browser | None, is_text: bool = False) -> None:
        self.cell = cell
        self._browser, self._is_text = browser, is_text
        self._name, self._run_id = words.plain(graph.name, 80), words.plain(run_id, 80)
        self._display = Display()
        self._opened_at = time.monotonic()
        self._next_at = 0.0
        self._display.publish(self._first())

    @property
    def tick_s(self) -> float:
        """As of Surface."""
        return PERIOD_S

    def show(self, look: Look) -> None:
        """Keep the run's end; while it goes on once how it stands, and more often if nobody shows it otherwise."""
        began = time.monotonic()
        if look.is_over or look.trouble or self._is_to_be_kept() or (not self._is_live() and began >= self._next_at):
            self._display.publish(self._page(look))
            self._next_at = time.monotonic() + max(PERIOD_S, (time.monotonic() - began) / SHARE_OF_A_CORE)

    def _is_live(self) -> bool:
        """Whether a front end shows the run, or has not yet had the time to say so."""
        if self._browser is None:
            return False
        return self._browser.is_seen or time.monotonic() < self._opened_at + UNSEEN_S

    def _is_to_be_kept(self) -> bool:
        """Whether there should be a page and is none yet, in whose place the live view would show itself."""
        is_due = WIDGET in self._display.kept and time.monotonic() > self._opened_at + SHORT_S
        return is_due and self._browser is not None and self._browser.keeps_pages

    def _first(self) -> dict[str, object]:
        """What is there at once, without waiting for a picture; and what is left if the kernel dies."""
        said = f"{self._name}: run {self._run_id} goes on. {self._now()}"
        shown = {} if self._browser is None else {WIDGET: _view_of(self._browser)}
        page = {} if self._is_text else {"text/html": f"<p>{escape(said)}</p>"}
        return {**shown, **page, "text/plain": said}

    def _page(self, look: Look) -> dict[str, object]:
        said = text(look.snapshot, look.now)
        if self._is_text:
            return {"text/plain": said}
        note = f'<p class="cf-note"><small>{escape(note)}</small></p>' if (note := self._note(look)) else ""
        slot = "" if self._browser is None else f' data-cf-view="{self._browser.model.slot}"'
        return {
            "text/html": f'<div class="cf-slot"{slot}>{html(look.snapshot, look.now)}{note}</div>',
            "text/plain": said,
        }

    def _note(self, look: Look) -> str:
        """What keeps the view from being live, and what to do about it."""
        if look.trouble:
            return words.plain(look.trouble, 500)
        if self._browser is None:
            return INSTALL
        if look.is_over:
            return ""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(look.now))
        return f"So it was at {at}. {self._now()}" if self._is_live() else INSTALL_THERE

    def _now(self) -> str:
        return f"How it stands: cf.attach({self._run_id!r})"


def _view_of(browser: Browser) -> dict[str, object]:
    return {"version_major": 2, "version_minor": 0, "model_id": browser.model.model_id}
