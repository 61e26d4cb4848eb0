"""The runs that are shown, and where: begun, gone on with, and let go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from celeryflow.config import view_mode
from celeryflow.graph.model import Graph
from celeryflow.view.live.follower import Follower, Shown
from celeryflow.view.live.where import Place, cell, place, shell

if TYPE_CHECKING:
    from celeryflow.view.live.browser import Browser
    from celeryflow.view.live.page import Page
    from celeryflow.view.live.panel import Panel, Tell, Told
    from celeryflow.view.live.scene import Early

LOOK_S, SETTLE_S = 1.0, 10.0
"""How long a cell waits at most to know whether a run is over, and then for the picture of its end."""

EARLY_NODES = 2_000
"""Runs of at most so many steps are drawn while they are submitted."""

MOST_KEPT = 50
"""Finished runs whose live views are kept for clicks; older ones keep the static page that stands there anyway."""

Watch = Callable[[], Shown]
"""Makes what a view hears of the run, with a Snapshot of its own."""


class Beside(NamedTuple):
    """What else stands under a run's display: how it begins, and how it goes on."""

    first: Told
    tell: Tell


class _Shown:
    """One run that is shown in this notebook."""

    def __init__(self, run: Shown) -> None:
        self.follower = Follower(run)
        self.browser: Browser | None = None
        self.pages: list[Page | Panel] = []
        if view_mode() == "auto" and (make := _widgets()) is not None:
            early = _early if _early is not None and _early.graph is run.graph else None
            self.browser = make(self.follower, early)

    def open(self, beside: Beside | None) -> None:
        """Show it under the cell that is running, once."""
        from celeryflow.view.live.page import Page
        from celeryflow.view.live.panel import Panel

        here, run, is_text = cell(), self.follower.run, view_mode() == "text"
        if not self.is_in(here.execution):
            fresh = () if self.browser is None or self.pages else (self.browser,)
            pages: list[Page | Panel] = [Page(run.graph, run.id, here, self.browser, is_text)]
            if beside is not None:
                pages.append(Panel(beside.tell, beside.first, here, is_text))
            self.pages += pages
            # Not before they stand there: the two threads would keep each other waiting.
            self.follower.add(*fresh, *pages)

    def is_in(self, execution: str) -> bool:
        """Whether it stands under this cell already."""
        return any(page.cell.execution == execution for page in self.pages)

    def leave(self, pages: list[Page | Panel]) -> None:
        """These displays are gone; with the last of them goes the rest."""
        self.pages = [page for page in self.pages if page not in pages]
        self.follower.remove(*pages)
        if not self.pages and self.browser is not None:
            self.follower.remove(self.browser)
            self.follower.do(self.browser.close)


_runs: dict[str, _Shown] = {}
_lock = threading.Lock()


_early: Early | None = None
"""The latest picture that was drawn while its run was submitted."""


def prepare(graph: Graph) -> None:
    """Begin with what a live view of a run needs, beside what else there is to do until it is shown."""
    if place() is Place.NOTEBOOK and view_mode() == "auto":
        threading.Thread(target=_prepare, args=(graph,), name="celeryflow-prepare", daemon=True).start()


def _prepare(graph: Graph) -> None:
    """Load the widgets, and draw; at first Graphviz in WebAssembly is compiled for it where there is no ``dot``."""
    global _early
    from celeryflow.view.live.scene import early

    if _widgets() is not None and len(graph.nodes) <= EARLY_NODES:
        with suppress(Exception):  # whatever it is, the thread that shows the run will find it, too
            _early = early(graph)


def show(run_id: str, watch: Watch, beside: Beside | None = None) -> bool:
    """Show a run under the cell that asks for it; whether that was done, or it stands there already."""
    here = place()
    if here is Place.NOTEBOOK:
        _open(run_id, watch, beside)
        return True
    return here is Place.TERMINAL and shell() is not None and (run_id, cell().execution) == _waited_for


_waited_for = ("", "")
"""The run that the terminal has shown last, and in which execution."""


def stands(run_id: str) -> bool:
    """Whether a run stands under the cell that is running."""
    shown = _runs.get(run_id)
    return place() is Place.NOTEBOOK and shown is not None and shown.is_in(cell().execution)


@contextmanager
def waiting(run_id: str, watch: Watch, beside: Beside | None = None) -> Iterator[None]:
    """Show a run while it is waited for: under the cell, in the terminal or in the log."""
    here = place()
    if here is Place.NOTEBOOK:
        _open(run_id, watch, beside)
        try:
            yield
        finally:
            settle(run_id)
    elif here is Place.NOWHERE:
        yield
    else:
        with _in_words(run_id, watch()):
            yield


@contextmanager
def _in_words(run_id: str, run: Shown) -> Iterator[None]:
    global _waited_for
    from celeryflow.view.live.terminal import Terminal

    terminal, follower = Terminal(), Follower(run)
    follower.add(terminal)
    try:
        yield
    finally:
        follower.settle(SETTLE_S)
        follower.remove(terminal)
        terminal.close()
        _waited_for = run_id, cell().execution


def settle(run_id: str) -> None:
    """Wait a moment until the end of a run that is over is shown, so that it stands in what is saved."""
    if (shown := _runs.get(run_id)) is not None:
        shown.follower.settle(SETTLE_S)


def go_on(run_id: str) -> None:
    """A run was resumed: its views go on."""
    if (shown := _runs.get(run_id)) is not None:
        shown.follower.do(shown.follower.show_soon)


def _open(run_id: str, watch: Watch, beside: Beside | None) -> None:
    with _lock:
        _listen_to_cells()
        shown = _runs.pop(run_id, None)
        if shown is not None and shown.follower.has_given_up:
            shown.leave(shown.pages)  # its server is gone, or another one is used by now
            shown = None
        shown = shown or _Shown(watch())
        _runs[run_id] = shown  # the latest is the last
        shown.open(beside)
        _let_go_of_old()
    if shown.follower.looks_over(LOOK_S):
        settle(run_id)


def _let_go_of_old() -> None:
    over = [run_id for run_id, shown in _runs.items() if shown.follower.run.is_over]
    for run_id in over[:-MOST_KEPT]:
        shown = _runs.pop(run_id)
        shown.leave(shown.pages)


def _listen_to_cells() -> None:
    """Have the notebook say when a cell runs again, whose displays it then takes away."""
    shell().events.register("pre_run_cell", _leave_cell)  # once, however often it is said


def _leave_cell(info: Any) -> None:
    """The cell's earlier displays are gone from the notebook."""
    with _lock:
        for run_id, shown in list(_runs.items()):
            gone = [page for page in shown.pages if page.cell.id and page.cell.id == getattr(info, "cell_id", None)]
            if gone:
                shown.leave(gone)
            if not shown.pages:
                del _runs[run_id]


def _widgets() -> type[Browser] | None:
    """What shows a run in front ends; None where what it needs is not installed."""
    try:
        from celeryflow.view.live.browser import Browser
    except ImportError:
        return None
    return Browser
