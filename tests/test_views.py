"""A run in words: the text, the page and the live view, which say the same."""

from __future__ import annotations

import io
import re
import time
from html import escape
from typing import Any

import pytest
from feeds import Feed, a_map, graph, node
from rich.console import Console
from showcase import chain, events, failed, one_step, running

from celeryflow.graph.model import Graph
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import boxes, rows, svg, words
from celeryflow.view.html import html, style
from celeryflow.view.text import LiveText, rich_text, text

# --- text and page -------------------------------------------------------------------------


def test_text_tells_a_run_in_a_few_lines() -> None:
    assert text(failed()).splitlines() == [
        "flights_etl  ✕ failure  run-7f3a2c  6.5 s",
        "✓ extract    ████████████████████      3 / 3  5.9 s",
        "✕ transform  ███████████████████▒  671 / 672  4.3 s  1 failed",
        "⊘ load       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒      0 / 1         1 skipped",
        "✕ validate[41]: ValueError: 2460 is no time",
        'next: run.errors()  run.replay("validate", 41)  run.resume()',
        '      flights_etl.resume(run, rerun="failed")',
    ]


def test_a_phase_without_steps_has_nothing_that_failed() -> None:
    assert 'class="cf-failed"' not in html(Snapshot(Graph(name="etl", nodes=(), phases=("load",)), "etl-1"))


@pytest.mark.parametrize("make", [running, failed])
def test_text_page_and_frames_say_the_same(make: Any) -> None:
    snapshot = make()
    shown, page = text(snapshot), html(snapshot)
    for _, row in frames.phases(snapshot, {}).iterrows():
        line = next(part for part in shown.splitlines() if f" {row['phase']} " in part)
        cells = re.search(rf"</span>{row['phase']}</td>.*?</tr>", page)
        assert cells
        summary = next(r for r in rows.rows(snapshot)[0] if r.name == row["phase"])
        for said in (line, cells[0]):
            assert f"{row['done']} / {summary.items}" in said
            assert (f"{row['failed']} failed" in said) == bool(row["failed"])
            assert words.seconds(None if row["duration_s"] != row["duration_s"] else row["duration_s"]) in said
        assert words.GLYPHS[State(row["status"])] in line
        assert f'aria-label="{row["progress"]:.0%} ended"' in cells[0]


def test_a_run_that_stands_still_says_that_its_worker_was_lost() -> None:
    snapshot = Snapshot(one_step(), "r")
    snapshot.apply_all(events((0.0, "claimed", 0, {"worker": "w:1"}), (9.0, "lost", 0, {"error": "gone"})))
    assert "worker lost, retrying" in text(snapshot)
    assert "worker lost, retrying" in html(snapshot)
    assert boxes.drawing(snapshot.graph, snapshot).boxes[0].note == "worker lost"


def test_a_lost_worker_is_told_until_the_next_attempt_has_ended() -> None:
    feed = Feed(graph(node(0, "a")))
    feed("claimed", 0, worker="w:1").after(1.0)("lost", 0, error="was killed by SIGKILL", tries=1)
    for _ in range(2):
        assert "worker lost, retrying (1 of 3)" in text(feed.snapshot)
        assert "worker lost, retrying (1 of 3)" in html(feed.snapshot)
        feed("claimed", 0, attempt=2, worker="w:2")
    assert boxes.drawing(feed.snapshot.graph, feed.snapshot).boxes[0].note != "worker lost, retry 1 of 3"
    feed("success", 0, attempt=2, worker="w:2")
    assert "worker lost" not in text(feed.snapshot) + html(feed.snapshot)


def test_a_retry_says_when_it_begins_and_the_how_manieth_it_is() -> None:
    feed = Feed(graph(node(0, "a", retries=2)))
    feed("claimed", 0, worker="w:1").after(1.0)("retrying", 0, error="OSError: 503", delay_s=3.2, tries=1)
    assert "failed, retrying in 4 s (1 of 2)" in text(feed.snapshot)
    assert "failed, retrying in 2 s (1 of 2)" in html(feed.snapshot, now=feed.now + 1.5)
    feed.after(3.5)("claimed", 0, attempt=2, worker="w:2")
    assert "failed, retrying (1 of 2)" in text(feed.snapshot)
    feed("success", 0, attempt=2, worker="w:2")
    assert "failed, retrying" not in text(feed.snapshot) + html(feed.snapshot)


def test_of_several_retries_the_latest_is_told_and_how_many_there_are() -> None:
    feed = Feed(graph(a_map(0, "m", length=5, retries=2)))
    feed("retrying", 0, 1, delay_s=60.0, tries=2).after(0.1)("lost", 0, 3, error="gone", tries=1)
    assert "2 retrying · worker lost, retrying (1 of 3)" in text(feed.snapshot)


def test_what_to_type_next_fits_how_the_run_stands() -> None:
    replay, again = 'run.replay("validate", 41)', 'flights_etl.resume(run, rerun="failed")'
    assert words.next_calls(running()) == ["run.errors()", replay]
    assert words.next_calls(failed()) == ["run.errors()", replay, "run.resume()", again]
    assert words.next_calls(Snapshot(one_step(), "r")) == []
    done = Snapshot(one_step(), "r")
    done.apply_all(events((1.0, "success", 0, {"worker": "w"}), (1.0, "ended", -1, {"status": "success"})))
    assert words.next_calls(done) == ["run.result()", "run.steps()"]
    stopped = Snapshot(one_step(), "r")
    stopped.apply_all(events((1.0, "ended", -1, {"status": "cancelled", "error": "by the user"})))
    assert words.next_calls(stopped) == ["run.resume()"]
    assert "by the user" in text(stopped)
    assert "by the user" in html(stopped)


def test_a_long_list_keeps_what_runs_or_went_wrong() -> None:
    graph = chain(200, [f"f{i}" for i in range(200)])
    snapshot = Snapshot(graph, "r")
    snapshot.apply_all(
        events(
            (1.0, "failure", 150, {"kind": "exception", "error": "E: x", "worker": "w"}),
            (1.0, "claimed", 199, {"worker": "w"}),
        )
    )
    listed, more = rows.rows(snapshot)
    assert (len(listed), more) == (rows.MAX_ROWS, 200 - rows.MAX_ROWS)
    assert {"s150", "s199"} <= {row.name for row in listed}
    assert "… and 170 more" in text(snapshot)
    assert "… and 170 more" in html(snapshot)


def test_the_page_reaches_nothing_outside_itself() -> None:
    sheet = re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL)
    for selectors in re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", sheet):
        assert all(".celeryflow" in selector for selector in re.sub(r"\([^)]*\)", "", selectors).split(","))
    assert "url(" not in sheet + svg.style()
    assert "@import" not in sheet + svg.style()
    assert "<" not in sheet + svg.style()
    assert all(".cf-picture" in line for line in svg.theme().splitlines() if "{" in line)


def test_the_page_has_a_light_and_a_dark_set_of_the_same_colours() -> None:
    sets = re.findall(r"\{[^{}]*--cf-bg:[^{}]*\}", style())
    names = [set(re.findall(r"(--cf-[a-z0-9-]+):", block)) for block in sets]
    assert len(sets) == 3
    assert names[0] == names[1] == names[2]
    assert sets[1].split() == sets[2].split()


# --- live ----------------------------------------------------------------------------------


class Terminal(io.TextIOWrapper):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def console(is_terminal: bool, encoding: str = "utf-8") -> Console:
    kind = Terminal if is_terminal else io.TextIOWrapper
    raw = kind(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=raw, width=100, force_terminal=is_terminal, force_jupyter=False)


def written(to: Console) -> str:
    raw: Any = to.file
    return str(raw.buffer.getvalue().decode(to.encoding))


def test_a_log_gets_a_line_an_end_and_no_control_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflow.view.text.UPDATES_A_SECOND", 1e9)
    monkeypatch.setattr("celeryflow.view.text.SHARE_OF_A_CORE", 1e9)
    to = console(is_terminal=False)
    with LiveText(to) as live:
        live.update(running())
        live.update(failed())
        live.update(failed())
        before = written(to)
    assert before.splitlines() == [
        "↻ planes  failed, retrying in 9 s: OSError: 503",
        "✓ extract  3 / 3  5.9 s",
        "✕ transform  671 / 672  4.3 s  1 failed",
        "⊘ load  0 / 1  1 skipped",
    ]
    after = written(to).removeprefix(before)
    assert [line.rstrip() for line in after.splitlines()] == text(failed()).splitlines()
    assert "\x1b" not in written(to)


def test_a_log_tells_a_lost_worker_once() -> None:
    snapshot = Snapshot(one_step(), "r")
    snapshot.apply_all(events((0.0, "claimed", 0, {"worker": "w:1"}), (9.0, "lost", 0, {"error": "signal 9"})))
    to = console(is_terminal=False)
    with LiveText(to) as live:
        live.update(snapshot)
        live.update(snapshot)
    assert written(to).count("↻ a  worker lost, retrying: signal 9\n") == 1


def test_a_log_tells_each_attempt_that_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflow.view.text.UPDATES_A_SECOND", 1e9)
    monkeypatch.setattr("celeryflow.view.text.SHARE_OF_A_CORE", 1e9)
    feed, to = Feed(graph(node(0, "a", retries=2))), console(is_terminal=False)
    with LiveText(to) as live:
        for tries in (1, 2):
            feed("retrying", 0, error="OSError: 503", delay_s=3.2, tries=tries)
            live.update(feed.snapshot)
            live.update(feed.snapshot)
        live.update(feed("lost", 0, error="was killed by SIGKILL", tries=1).snapshot)
        told = written(to).splitlines()
    assert told == [
        "↻ a  failed, retrying in 4 s (1 of 2): OSError: 503",
        "↻ a  failed, retrying in 4 s (2 of 2): OSError: 503",
        "↻ a  worker lost, retrying (1 of 3): was killed by SIGKILL",
    ]


def test_a_queue_that_nobody_serves_is_named_while_that_is_so() -> None:
    snapshot, to = running(), console(is_terminal=False)
    snapshot.unserved = {"gpu": ["train", "tune"]}
    notice = "no worker serves queue 'gpu', in which 'train' waits. Start one: celeryflow worker -Q gpu"
    with LiveText(to) as live:
        live.update(snapshot)
        live.update(snapshot)
        assert written(to).splitlines().count(notice) == 1
        assert notice in text(snapshot).splitlines()
        assert escape(notice) in html(snapshot)

        snapshot.unserved = {}
        live.update(snapshot)
    assert written(to).count(notice) == 1
    assert "no worker serves" not in text(snapshot) + html(snapshot)


def test_a_terminal_is_redrawn_at_most_ten_times_a_second_and_ends_with_the_end() -> None:
    to = console(is_terminal=True)
    with LiveText(to) as live:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.35:
            live.update(running())
        live.update(failed())
    assert "\x1b[" in written(to)
    assert 1 <= written(to).count("▸ running") <= 4
    assert written(to).count("✕ failure") >= 1


def test_a_console_without_these_signs_gets_plainer_ones() -> None:
    to = console(is_terminal=False, encoding="ascii")
    with LiveText(to) as live:
        live.update(failed())
    assert "x transform" in written(to)
    assert "###" in written(to)


def test_the_text_of_a_terminal_is_the_text() -> None:
    plain = "\n".join(line.rstrip() for line in rich_text(running()).plain.splitlines())
    assert plain == text(running())


def test_time_goes_on_where_a_view_is_told_the_time() -> None:
    later = (running().last_at or 0.0) + 60
    assert "1 min 6 s" in text(running(), now=later)
    assert "1 min 6 s" in html(running(), now=later)
