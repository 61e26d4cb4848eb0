"""A run in a real terminal and in a log: narrow, without colours, broken, and for hours."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from feeds import Feed, a_map, graph
from rich.cells import cell_len
from rich.console import Console
from showcase import failed, running

from celeryflow.view.html import html
from celeryflow.view.text import LiveText, rich_text, text

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of our own, of so many columns."""

    def __init__(self, columns: int) -> None:
        self.reads, self.writes = pty.openpty()
        self.file = os.fdopen(self.writes, "w", encoding="utf-8")
        self.console = Console(file=self.file, width=columns)

    def written(self) -> str:
        found = b""
        while select.select([self.reads], [], [], 0.0)[0]:
            found += os.read(self.reads, 65536)
        return found.decode()


@contextmanager
def terminal(columns: int = 100) -> Iterator[Terminal]:
    made = Terminal(columns)
    try:
        yield made
    finally:
        with suppress(OSError):
            made.file.close()
        os.close(made.reads)


def lines_of(written: str) -> list[str]:
    """What stands in the terminal after the last time that the cursor went up."""
    return list(CODES.sub("", re.split(r"\x1b\[1A", written)[-1]).replace("\r", "").split("\n"))


def test_a_terminal_is_redrawn_in_place() -> None:
    with terminal() as screen:
        with LiveText(screen.console) as live:
            live.update(running())
            first = screen.written()
            live.update(failed())
        last = screen.written()
    assert "▸ running" in first
    assert "\x1b[1A" in last  # the cursor goes up again
    assert [line.rstrip() for line in lines_of(last) if line] == text(failed()).splitlines()


def test_a_terminal_and_a_page_say_how_long_it_may_still_take() -> None:
    feed = Feed(graph(a_map(0, "m", length=9)))
    feed("claimed", 0, worker="w:1").after(30.0)("success", 0, worker="w:1", durations_s=(30.0,))
    feed("claimed", 0, 1, worker="w:1")
    with terminal() as screen, LiveText(screen.console) as live:
        live.update(feed.snapshot, feed.now)
        assert "about 4 min" in screen.written()
    assert "about 4 min" in text(feed.snapshot, feed.now)
    assert "about 4 min" in html(feed.snapshot, feed.now)


def test_no_color_leaves_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as screen:
        with LiveText(screen.console) as live:
            live.update(failed())
        written = screen.written()
    assert "✕ failure" in CODES.sub("", written)
    assert not re.findall(r"\x1b\[[0-9;]*(?:3[0-7]|4[0-7]|38|48|9[0-7])[0-9;]*m", written)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as screen:
        with LiveText(screen.console) as live:
            live.update(failed())
        written = screen.written()
    assert "\x1b" not in written
    assert "✓ extract  3 / 3" in written


@pytest.mark.parametrize("columns", [72, 50, 36])
def test_a_narrow_terminal_shows_names_counts_and_times(columns: int) -> None:
    with terminal(columns) as screen:
        with LiveText(screen.console) as live:
            live.update(running())
        shown = lines_of(screen.written())
    assert all(cell_len(line) <= columns for line in shown)
    row = next(line for line in shown if line.startswith("▸ trans"))
    assert "397 / 672" in row
    assert "3.8 s" in row
    assert any("2 workers busy" in line for line in shown) or columns < 60


def test_without_a_width_nothing_is_cut() -> None:
    assert rich_text(running(), width=1_000).plain == rich_text(running()).plain


@pytest.mark.parametrize("asking", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_log_gets_no_control_codes_whatever_asks_for_colours(asking: str, tmp_path: Path) -> None:
    shows = "with LiveText() as live: live.update(failed())"
    script = f"from showcase import failed\nfrom celeryflow.view.text import LiveText\n{shows}"
    environment = {**os.environ, asking: "1", "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "✕ failure" in done.stdout


def log() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100), file


def test_a_short_run_leaves_its_end_alone_in_a_log() -> None:
    to, file = log()
    with LiveText(to, quiet_s=60.0) as live:
        live.update(running())
        live.update(failed())
        assert file.getvalue() == ""
    assert [line.rstrip() for line in file.getvalue().splitlines()] == text(failed()).splitlines()


def test_a_queue_that_nobody_serves_is_told_at_once() -> None:
    to, file = log()
    snapshot = running()
    snapshot.unserved = {"gpu": ["train"]}
    with LiveText(to, quiet_s=60.0) as live:
        live.update(snapshot)
        assert "no worker serves queue 'gpu'" in file.getvalue()


def test_a_log_that_was_told_nothing_for_long_is_told_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflow.view.text.UPDATES_A_SECOND", 1e9)
    monkeypatch.setattr("celeryflow.view.text.SHARE_OF_A_CORE", 1e9)
    to, file = log()
    with LiveText(to) as live:
        live.update(running())
        before = file.getvalue()
        live.update(running())
        assert file.getvalue() == before
        monkeypatch.setattr("celeryflow.view.text.SILENCE_S", 0.0)
        live.update(running())
        (line,) = file.getvalue().removeprefix(before).splitlines()
    assert line.startswith("flights_etl  ▸ running  run-7f3a2c  5.8 s")
    assert line.endswith("transform 397 / 672")


class Broken(io.StringIO):
    """An output whose reader has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("is_closed", [False, True])
def test_an_output_that_breaks_stops_nothing(is_closed: bool) -> None:
    file = io.StringIO() if is_closed else Broken()
    if is_closed:
        file.close()
    with LiveText(Console(file=file, width=100)) as live:
        live.update(running())
        live.update(failed())


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    screen = Terminal(100)
    with LiveText(screen.console) as live:
        live.update(running())
        os.close(screen.reads)
        live._next_at = 0.0
        live.update(failed())
    with suppress(OSError):
        screen.file.close()
