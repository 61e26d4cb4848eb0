"""A run in words: as plain text, and live in a terminal or a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.estimate import Countdown, remaining_s
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.summary import Summary
from celeryflow.view import words
from celeryflow.view.output import Output
from celeryflow.view.rows import rows

UPDATES_A_SECOND, SHARE_OF_A_CORE = 10, 0.05
"""Most that showing a run may take; what takes long to draw is drawn less often."""

SILENCE_S = 60.0
"""After so long a log is told that the run goes on; builds are stopped that say nothing for minutes."""

_STYLES: dict[State, str] = {
    State.RUNNING: "blue",
    State.RETRYING: "yellow",
    State.SUCCESS: "green",
    State.FAILURE: "red",
}
_BAR_CELLS, _LEAST_BAR, _NAME_CELLS, _LEAST_NAME, _NEXT_CELLS = 20, 5, 32, 8, 73
_ASCII: dict[int, int | str] = {
    **str.maketrans("○▸✓✕↻⊘█▒·◇⊞" + words.TIMES, "o>+x~-#%.?+x"),
    ord("…"): "...",
    ord("←"): "<-",
}

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


def rich_text(snapshot: Snapshot, now: float | None = None, width: int | None = None) -> Text:
    """The same for a terminal, coloured."""
    return _joined(lines(snapshot, now, width))


def lines(snapshot: Snapshot, now: float | None = None, width: int | None = None) -> list[Line]:
    """The lines of `text`, in pieces with their styles; where a width in cells is given, narrower ones."""
    return [*_body(snapshot, now, width, remaining_s(snapshot, now)), *_foot(snapshot)]


def _joined(found: list[Line]) -> Text:
    shown = Text(no_wrap=True, overflow="ellipsis")
    for at, line in enumerate(found):
        shown.append("\n" if at else "")
        for piece, style in line:
            shown.append(piece, style=style)
    return shown


def _body(snapshot: Snapshot, now: float | None, width: int | None, left_s: float | None) -> list[Line]:
    listed, more = rows(snapshot, now)
    rest: list[Line] = [[(f"  … and {words.number(more)} more", "dim")]] if more else []
    return [_head(snapshot, now, width, left_s), *_table(listed, width), *rest]


def _head(snapshot: Snapshot, now: float | None, width: int | None, left_s: float | None) -> Line:
    status, run, facts = snapshot.status, words.plain(snapshot.run_id, 80), words.facts(snapshot, now, left_s)
    begin: Line = [
        (words.plain(snapshot.graph.name, 80), "bold"),
        (f"  {words.GLYPHS[status]} {status}", _STYLES.get(status, "")),
    ]
    has_room = width is None or sum(cell_len(piece) for piece, _ in begin) + cell_len(f"  {run}  {facts}") <= width
    return [*begin, (f"  {run}  {facts}" if has_room else f"  {facts}", "dim")]


def _table(listed: list[Summary], width: int | None) -> list[Line]:
    names = [words.plain(row.name, _NAME_CELLS) for row in listed]
    counts = [words.count(row) for row in listed]
    times = [words.seconds(row.duration_s) for row in listed]
    name, count, took = (max(map(cell_len, column), default=0) for column in (names, counts, times))
    name, bar = _sizes(name, 2 + 2 + 2 + count + 2 + took, width)
    return [
        [
            (f"{words.GLYPHS[row.status]} ", _STYLES.get(row.status, "dim")),
            (_fitted(names[at], name), ""),
            *_bar(row, bar),
            (f"  {counts[at]:>{count}}", "dim"),
            *_tail(row, f"  {times[at]:>{took}}"),
        ]
        for at, row in enumerate(listed)
    ]


def _sizes(name: int, others: int, width: int | None) -> tuple[int, int]:
    """Cells for the names and for the bars: in a narrow terminal the bars give way first."""
    if width is None:
        return name, _BAR_CELLS
    room = width - others - 2  # for the sign that more was cut off
    bar = max(_LEAST_BAR, min(_BAR_CELLS, room - name))
    return min(name, max(_LEAST_NAME, room - bar)), bar


def _fitted(name: str, cells: int) -> str:
    return set_cell_size(name, cells) if cell_len(name) <= cells else f"{set_cell_size(name, cells - 1)}…"


def _tail(row: Summary, took: str) -> Line:
    notes: Line = [(words.reused(row), "dim"), (words.troubles(row), "red" if row.failed else "yellow")]
    said = [(f"  {note}", style) for note, style in notes if note]
    return [(took if said else took.rstrip(), "dim"), *said]


def _bar(row: Summary, cells: int) -> Line:
    done = int(cells * row.done_share + 1e-9)
    ended = max(done, int(cells * row.progress + 1e-9))
    style = _STYLES.get(row.status, "dim")
    other = "red" if row.failed else "dim"
    rest = "·" * (cells - ended)
    return [("  ", ""), ("█" * done, style), ("▒" * (ended - done), other), (rest, "dim")]


def _foot(snapshot: Snapshot) -> list[Line]:
    foot: list[Line] = [[(notice, "yellow")] for notice in words.unserved(snapshot)]
    place, error = words.failure_place(snapshot)
    if place:
        foot.append([(f"{words.GLYPHS[State.FAILURE]} {place}: ", "red"), (error, "red")])
        foot += [[(line, "")] for line in words.failure_lines(snapshot)]
    if snapshot.reason:
        foot.append([(f"{snapshot.status}: {words.plain(snapshot.reason, 300)}", "dim")])
    heads = ["next: ", *["      "] * 9]
    return [*foot, *([(head, "dim"), (line, "")] for head, line in zip(heads, _next(snapshot), strict=False))]


def _next(snapshot: Snapshot) -> list[str]:
    """The calls to type next, in lines that a terminal of 80 columns has room for."""
    lines: list[str] = []
    for call in words.next_calls(snapshot):
        if lines and cell_len(lines[-1]) + cell_len(call) + 2 <= _NEXT_CELLS:
            lines[-1] += f"  {call}"
        else:
            lines.append(call)
    return lines


class LiveText:
    """Shows a run while it goes on: redrawn in a terminal, line by line in a log.

    Where the output is no terminal, no control codes are written, whatever variables ask for colours: a line when a
    phase or step ends or is tried again, one a minute while nothing else happens, and all of it at the end. An output
    that breaks ends the showing, and nothing else.

    Parameters
    ----------
    console : rich.console.Console or None
        Where to; None for standard output. It writes to an `Output` from then on.
    quiet_s : float
        Seconds in which a log is told no end: a run that is over by then gets the lines of its end alone.
    """

    def __init__(self, console: Console | None = None, quiet_s: float = 0.0) -> None:
        self.console = console or Console(force_jupyter=False)
        self._output = Output(self.console.file)
        self.console.file = cast(IO[str], self._output)
        self._quiet_until = time.monotonic() + quiet_s
        self._live: Live | None = None
        self._latest: tuple[Snapshot, float | None] | None = None
        self._next_at, self._said_at = float("-inf"), time.monotonic()
        self._told: set[tuple[int, str]] = set()
        self._noticed: set[str] = set()
        self._tried: dict[int, int] = {}
        self._countdown = Countdown()

    def _left_s(self, snapshot: Snapshot, now: float | None) -> float | None:
        return self._countdown.left_s(snapshot, now if now is not None else snapshot.last_at or 0.0)

    def __enter__(self) -> LiveText:
        if self._output.isatty() and self.console.is_terminal and not self.console.is_dumb_terminal:
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
        if began >= self._next_at and not self._output.is_broken:
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
            foot = self._encodable(_joined(_foot(snapshot)))
            foot.no_wrap, foot.overflow = False, "fold"
            body = self._encodable(_joined(_body(snapshot, now, self.console.width, self._left_s(snapshot, now))))
            self._live.update(Group(body, foot) if foot else body, refresh=True)
        else:
            self._tell(snapshot, now)

    def _tell(self, snapshot: Snapshot, now: float | None) -> None:
        """Write a line for what is tried again, and for each end, that was not told yet."""
        for notice in words.unserved(snapshot):
            if notice not in self._noticed:
                self._noticed.add(notice)
                self._print(Text(notice))
        if time.monotonic() < self._quiet_until:
            return
        for record in snapshot.top:
            tried = record.losses + record.retries
            if tried > self._tried.get(record.node.index, 0):
                self._tried[record.node.index] = tried
                self._print(Text(_told_again(record)))
        listed = rows(snapshot, now)[0]
        for row in listed:
            if row.status.is_terminal and (snapshot.generation, row.name) not in self._told:
                self._told.add((snapshot.generation, row.name))
                self._print(Text(_told(row)))
        if time.monotonic() - self._said_at >= SILENCE_S:
            at_work = [f"{words.plain(row.name, 60)} {words.count(row)}" for row in listed if row.running]
            head = _joined([_head(snapshot, now, None, self._left_s(snapshot, now))]).plain
            self._print(Text("  ".join([head, *at_work[:4]])))

    def _print(self, shown: Text) -> None:
        shown.no_wrap, shown.overflow = False, "ignore"
        shown = self._encodable(shown)
        self._said_at = time.monotonic()
        plainer = shown if self._output.isatty() else Text(shown.plain)
        self.console.print(plainer, soft_wrap=True, highlight=False)

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
