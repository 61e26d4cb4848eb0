"""A run in words: as plain text, and live in a terminal or a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.summary import Summary
from celeryflow.view import words
from celeryflow.view.rows import rows

UPDATES_A_SECOND, SHARE_OF_A_CORE = 10, 0.05
"""Most that showing a run may take; what takes long to draw is drawn less often."""

_STYLES: dict[State, str] = {
    State.RUNNING: "blue",
    State.RETRYING: "yellow",
    State.SUCCESS: "green",
    State.FAILURE: "red",
}
_BAR_CELLS, _NAME_CELLS = 20, 32
_ASCII = str.maketrans(
    {"○": "o", "▸": ">", "✓": "+", "✕": "x", "↻": "~", "⊘": "-", "█": "#", "▒": "%", "·": ".", "…": "..."}
)

Line = list[tuple[str, str]]
"""Pieces of a line: text and its style."""


def text(snapshot: Snapshot, now: float | None = None) -> str:
    """A run in a few lines: how it stands, a line a phase or step, the first error, what to type next.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    now : float or None
        The server's time, until which what still runs lasts; None for the latest event's.
    """
    return "\n".join("".join(piece for piece, _ in line).rstrip() for line in lines(snapshot, now))


def rich_text(snapshot: Snapshot, now: float | None = None) -> Text:
    """The same for a terminal, coloured."""
    shown = Text(no_wrap=True, overflow="ellipsis")
    for at, line in enumerate(lines(snapshot, now)):
        shown.append("\n" if at else "")
        for piece, style in line:
            shown.append(piece, style=style)
    return shown


def lines(snapshot: Snapshot, now: float | None = None) -> list[Line]:
    """The lines of `text`, in pieces with their styles."""
    listed, more = rows(snapshot, now)
    return [
        _head(snapshot, now),
        *_table(listed),
        *([[(f"  … and {words.number(more)} more", "dim")]] if more else []),
        *_foot(snapshot),
    ]


def _head(snapshot: Snapshot, now: float | None) -> Line:
    status = snapshot.status
    return [
        (words.plain(snapshot.graph.name, 80), "bold"),
        (f"  {words.GLYPHS[status]} {status}", _STYLES.get(status, "")),
        (f"  {words.plain(snapshot.run_id, 80)}  {words.facts(snapshot, now)}", "dim"),
    ]


def _table(listed: list[Summary]) -> list[Line]:
    names = [words.plain(row.name, _NAME_CELLS) for row in listed]
    counts = [words.count(row) for row in listed]
    times = [words.seconds(row.duration_s) for row in listed]
    name, count, took = (max(map(cell_len, column), default=0) for column in (names, counts, times))
    return [
        [
            (f"{words.GLYPHS[row.status]} ", _STYLES.get(row.status, "dim")),
            (set_cell_size(names[at], name), ""),
            *_bar(row),
            (f"  {counts[at]:>{count}}", "dim"),
            *_tail(row, f"  {times[at]:>{took}}"),
        ]
        for at, row in enumerate(listed)
    ]


def _tail(row: Summary, took: str) -> Line:
    notes: Line = [(words.reused(row), "dim"), (words.troubles(row), "red" if row.failed else "yellow")]
    said = [(f"  {note}", style) for note, style in notes if note]
    return [(took if said else took.rstrip(), "dim"), *said]


def _bar(row: Summary) -> Line:
    done = int(_BAR_CELLS * row.done_share + 1e-9)
    ended = max(done, int(_BAR_CELLS * row.progress + 1e-9))
    style = _STYLES.get(row.status, "dim")
    other = "red" if row.failed else "dim"
    rest = "·" * (_BAR_CELLS - ended)
    return [("  ", ""), ("█" * done, style), ("▒" * (ended - done), other), (rest, "dim")]


def _foot(snapshot: Snapshot) -> list[Line]:
    foot: list[Line] = [[(notice, "yellow")] for notice in words.unserved(snapshot)]
    place, error = words.failure_place(snapshot)
    if place:
        foot.append([(f"{words.GLYPHS[State.FAILURE]} {place}: ", "red"), (error, "red")])
    if snapshot.reason:
        foot.append([(f"{snapshot.status}: {words.plain(snapshot.reason, 300)}", "dim")])
    calls = words.next_calls(snapshot)
    return [*foot, [("next: ", "dim"), ("  ".join(calls), "")]] if calls else foot


class LiveText:
    """Shows a run while it goes on: redrawn in a terminal, line by line in a log.

    Where the console is no terminal no control codes are written: a line when a phase or step ends or is
    tried again, and all of it at the end.

    Parameters
    ----------
    console : rich.console.Console or None
        Where to; None for standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live: Live | None = None
        self._latest: tuple[Snapshot, float | None] | None = None
        self._next_at = float("-inf")
        self._told: set[tuple[int, str]] = set()
        self._noticed: set[str] = set()
        self._tried: dict[int, int] = {}

    def __enter__(self) -> LiveText:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def update(self, snapshot: Snapshot, now: float | None = None) -> None:
        """Show the run as it is now; between two drawings at least a tenth of a second passes.

        What is passed over shows with the next update or at the end, so call it a few times a second
        while the run goes on.
        """
        self._latest = (snapshot, now)
        began = time.monotonic()
        if began >= self._next_at:
            self._draw(snapshot, now)
            took = time.monotonic() - began
            self._next_at = began + max(1 / UPDATES_A_SECOND, took / SHARE_OF_A_CORE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._latest is not None:
                self._draw(*self._latest)
        finally:
            if self._live is not None:
                self._live.stop()
        if self._live is None and self._latest is not None:
            self._print(rich_text(*self._latest))

    def _draw(self, snapshot: Snapshot, now: float | None) -> None:
        if self._live is not None:
            self._live.update(self._encodable(rich_text(snapshot, now)), refresh=True)
        else:
            self._tell(snapshot, now)

    def _tell(self, snapshot: Snapshot, now: float | None) -> None:
        """Write a line for what is tried again, and for each end, that was not told yet."""
        for record in snapshot.top:
            tried = record.losses + record.retries
            if tried > self._tried.get(record.node.index, 0):
                self._tried[record.node.index] = tried
                self._print(Text(_told_again(record)))
        for notice in words.unserved(snapshot):
            if notice not in self._noticed:
                self._noticed.add(notice)
                self._print(Text(notice))
        ended = [row for row in rows(snapshot, now)[0] if row.status.is_terminal]
        for row in ended:
            if (snapshot.generation, row.name) not in self._told:
                self._told.add((snapshot.generation, row.name))
                self._print(Text(_told(row)))

    def _print(self, shown: Text) -> None:
        shown.no_wrap, shown.overflow = False, "ignore"
        self.console.print(self._encodable(shown), soft_wrap=True, highlight=False)

    def _encodable(self, shown: Text) -> Text:
        """The text in signs that the console's encoding has."""
        encoding = self.console.encoding
        if encoding.startswith("utf"):
            return shown
        plainer = Text(no_wrap=shown.no_wrap, overflow=shown.overflow)
        for piece in shown.divide(sorted({end for span in shown.spans for end in (span.start, span.end)})):
            style = piece.spans[0].style if piece.spans else ""
            signs = piece.plain.translate(_ASCII).encode(encoding, "replace").decode(encoding)
            plainer.append(signs, style=style)
        return plainer


def _told_again(record: StepRecord) -> str:
    latest = record.latest
    said = f"{words.again(latest, latest.delay_s)}: {words.plain(latest.reason)}" if latest else "retrying"
    return f"{words.GLYPHS[State.RETRYING]} {words.step_name(record)}  {said}"


def _told(row: Summary) -> str:
    parts = (
        f"{words.GLYPHS[row.status]} {words.plain(row.name, 60)}",
        words.count(row),
        words.seconds(row.duration_s),
        words.reused(row),
        words.troubles(row),
    )
    return "  ".join(part for part in parts if part)
