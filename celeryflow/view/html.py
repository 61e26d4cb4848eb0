"""A run as a static page: what a notebook keeps, and shows where nothing is live."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files

from celeryflow.runtime.snapshot.estimate import remaining_s
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.summary import Summary
from celeryflow.view import words
from celeryflow.view.rows import rows
from celeryflow.view.svg import Picture, draw


def html(snapshot: Snapshot, now: float | None = None) -> str:
    """The page of a run: head, picture, a row a phase or step, the first error and what to type next.

    Everything that a user wrote is escaped, and no argument or result is in it.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    now : float or None
        The server's time, until which what still runs lasts; None for the latest event's.
    """
    beside = aside(snapshot)
    alone = "" if beside else " cf-alone"
    name = escape(words.plain(snapshot.graph.name, 80))
    return (
        f'<section class="celeryflow" role="group" aria-label="run of {name}"><style>{style()}</style>'
        f"{_head(snapshot, now)}{_canvas(draw(snapshot.graph, snapshot, now))}"
        f'<div class="cf-lower{alone}">{_table(snapshot, now)}{_beside(beside)}</div></section>'
    )


@cache
def style() -> str:
    """The style sheet of the page; its selectors only reach what is inside ``.celeryflow``."""
    return (files("celeryflow.view") / "static" / "page.css").read_text(encoding="utf-8")


def _head(snapshot: Snapshot, now: float | None) -> str:
    status = snapshot.status
    return (
        f'<div class="cf-head"><b>{escape(words.plain(snapshot.graph.name, 80))}</b>'
        f'<span class="cf-chip {status}">{words.GLYPHS[status]} {status}</span>'
        f'<span class="cf-dim">{escape(words.plain(snapshot.run_id, 80))}</span><span class="cf-grow"></span>'
        f'<span class="cf-dim">{escape(words.facts(snapshot, now, remaining_s(snapshot, now)))}</span></div>'
    )


def _canvas(picture: Picture) -> str:
    remark = f'<p class="cf-dim"><small>{escape(picture.remark)}</small></p>' if picture.remark else ""
    return f'<div class="cf-canvas">{picture.img() or f"<pre>{escape(picture.text)}</pre>"}{remark}</div>'


def _table(snapshot: Snapshot, now: float | None) -> str:
    listed, more = rows(snapshot, now)
    last = f'<tr><td class="cf-name" colspan="5">… and {words.number(more)} more</td></tr>' if more else ""
    return f'<table class="cf-rows"><tbody>{"".join(map(_row, listed))}{last}</tbody></table>'


def _row(row: Summary) -> str:
    return (
        f'<tr class="{row.status}" title="{row.status}"><td class="cf-name">'
        f'<span class="cf-glyph">{words.GLYPHS[row.status]}</span>{escape(words.plain(row.name, 60))}</td>'
        f'<td class="cf-bar">{_track(row)}</td>'
        f'<td class="cf-trouble"><small>{_reused(row)}{escape(words.troubles(row))}</small></td>'
        f'<td class="cf-number">{words.count(row)}</td>'
        f'<td class="cf-number">{words.seconds(row.duration_s)}</td></tr>'
    )


def _reused(row: Summary) -> str:
    said = words.reused(row)
    return f'<span class="cf-dim">{said}</span> ' if said else ""


def _track(row: Summary) -> str:
    other = max(0.0, row.progress - row.done_share - row.failed_share)
    parts = (("cf-done", row.done_share), ("cf-failed", row.failed_share), ("cf-other", other))
    bars = "".join(f'<span class="{name}" style="width:{share:.2%}"></span>' for name, share in parts if share)
    return f'<div class="cf-track" role="img" aria-label="{row.progress:.0%} ended">{bars}</div>'


def _beside(shown: str) -> str:
    return f'<div class="cf-aside">{shown}</div>' if shown else ""


def aside(snapshot: Snapshot) -> str:
    """What stands beside the rows while nothing is chosen: what is wrong, where, and what to type next."""
    place, error = words.failure_place(snapshot)
    reason = words.plain(snapshot.reason, 300)
    lines = [
        *(f'<p class="cf-error">{escape(notice)}</p>' for notice in words.unserved(snapshot)),
        f'<p class="cf-error"><b>{escape(place)}</b>: {escape(error)}</p>' if place else "",
        code(words.failure_lines(snapshot)) if place else "",
        f"<p>{snapshot.status}: {escape(reason)}</p>" if reason else "",
        next_calls(words.next_calls(snapshot)),
    ]
    return "".join(lines)


def code(lines: list[str]) -> str:
    """Lines of a traceback; empty without any."""
    return f'<pre class="cf-code">{escape(chr(10).join(lines))}</pre>' if lines else ""


def next_calls(calls: list[str]) -> str:
    """What to type next; empty for nothing."""
    return f"<p>next: {' '.join(f'<code>{escape(call)}</code>' for call in calls)}</p>" if calls else ""
