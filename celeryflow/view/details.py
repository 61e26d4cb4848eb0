"""What is shown of a step, or of an item of a map, when somebody points at it: pieces of HTML, each small and inert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from celeryflow.graph.model import Failure
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.snapshot.trail import CodeLine
from celeryflow.view import words
from celeryflow.view.html import code, next_calls
from celeryflow.view.preview import size

MOST_CHARS, VALUES_CHARS = 20_000, 8_000
LOG_LINES, TRACEBACK_LINES, LINE_CHARS = 20, 40, 160


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a step or item; `outcome` is empty while it runs."""

    number: int
    outcome: str
    started_at: float | None
    duration_s: float | None
    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a map: its number, and what it was mapped from, where that is known."""

    index: int
    key: str | None = None


def joined(parts: Iterable[str]) -> str:
    """The pieces one after the other; those for which there is no room are left out, and that is said."""
    found, room, is_cut = [], MOST_CHARS, False
    for part in parts:
        is_cut = is_cut or len(part) > room
        if len(part) <= room:
            found.append(part)
            room -= len(part)
    more = '<p class="cf-dim">… and more than is shown here</p>' if is_cut else ""
    return f'<div class="cf-details">{"".join(found)}{more}</div>'


def head(record: StepRecord, now: float) -> str:
    """The step's sign, name and counts."""
    facts = [words.seconds(record.duration_s(now))] if not record.node.is_map else _counts(record)
    attempt = f"attempt {record.attempt}" if record.attempt else ""
    return _title(record.status, words.label(record), [str(record.status), *facts, attempt])


def item_head(record: StepRecord, item: Item, status: State, attempts: int) -> str:
    """The same for an item, and the way back to its map."""
    name = f"{words.step_name(record)}[{item.index}]"
    back = _pick(record.node.index, None, f"all of {words.step_name(record)}")
    key = f"<p>key <code>{_shown(item.key, 80)}</code></p>" if item.key is not None else ""
    return _title(status, name, [str(status), words.counted(attempts, "attempt") if attempts else "", ""], back) + key


def _counts(record: StepRecord) -> list[str]:
    if record.length is None:
        return ["its items are not known yet"]
    parts = [(record.failed, "failed"), (record.skipped, "skipped"), (record.cancelled, "cancelled")]
    parts += [(record.running, "running"), (record.retrying, "retrying")]
    of = f"{words.number(record.done)} of {words.counted(record.length, 'item')}"
    return [of, *(f"{words.number(n)} {word}" for n, word in parts if n)]


def _title(status: State, name: str, facts: Sequence[str], more: str = "") -> str:
    said = _shown(" · ".join(fact for fact in facts if fact), 200)
    glyph = f'<span class="cf-glyph">{words.GLYPHS[status]}</span>'
    return f'<p class="cf-what {status}">{glyph}<b>{_shown(name, 80)}</b> <span class="cf-dim">{said}</span> {more}</p>'


def picks(node: int, failed: Sequence[Item], count: int) -> str:
    """The failed items of a map, to choose from."""
    if not failed:
        return ""
    buttons = [_pick(node, i.index, f"{i.index}" if i.key is None else f"{i.index} · {i.key}") for i in failed]
    more = f"… and {words.number(count - len(failed))} more" if count > len(failed) else ""
    return f'<p class="cf-picks">failed: {" ".join(buttons)} <span class="cf-dim">{more}</span></p>'


def _pick(node: int, item: int | None, label: str) -> str:
    chosen = f'data-node="{node}" data-item="{"" if item is None else item}"'
    return f'<button type="button" class="cf-pick" {chosen}>{_shown(label, 40)}</button>'


def failure(place: str, found: Failure, trail: Sequence[CodeLine], calls: list[str], key: str | None = None) -> str:
    """Why it failed, with the user's own lines, and what to type next."""
    where = f"{_shown(place, 80)} · <code>{_shown(key, 60)}</code>" if key is not None else _shown(place, 80)
    kind = "" if found.kind == "exception" else f" ({_shown(found.kind, 20)})"
    message = f": {_shown(found.message, 300)}" if found.message else ""
    error = f'<p class="cf-error">{where} — <b>{_shown(found.error or found.kind, 80)}</b>{kind}{message}</p>'
    return f"{error}{code(words.code_lines(trail))}{next_calls(calls)}"


def reason(text: str) -> str:
    """Why it was skipped or cancelled, or what it waits for after a failure."""
    return f'<p class="cf-reason">{_shown(text, 300)}</p>' if text else ""


def timing(started_at: float | None, wait_s: float | None, duration_s: float | None, stored: int, worker: str) -> str:
    """When it began, how long it waited and ran, what it stored and where it ran."""
    facts = [
        ("started", "" if started_at is None else f"{datetime.fromtimestamp(started_at, UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("waited", words.seconds(wait_s)),
        ("took", words.seconds(duration_s)),
        ("stored", size(stored) if stored else ""),
        ("worker", worker),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{_shown(fact, 80)}</dd>" for name, fact in facts if fact)
    return f'<dl class="cf-times">{rows}</dl>' if rows else ""


def attempts(found: Sequence[Attempt], count: int) -> str:
    """Each attempt and why it ended, the latest last; folded where there is but one."""
    if not found:
        return ""
    cells = [
        (
            str(a.number), a.outcome.replace("_", " ") or "running", words.seconds(a.duration_s), a.worker, a.reason,
        )
        for a in found
    ]  # fmt: skip
    limits = (10, 20, 20, 40, 160)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_shown(cell, limit)}</td>' for cell, limit in zip(row, limits, strict=True))}</tr>"
        for row in cells
    )
    head = "".join(f"<th>{name}</th>" for name in ("attempt", "ended as", "took", "worker", "why"))
    table = f'<table class="cf-frame"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return folded(words.counted(count, "attempt"), table, is_open=count > 1)


def values(title: str, named: Sequence[tuple[str, str]]) -> str:
    """Previews (HTML) under their names, as many as there is room for."""
    rows: list[str] = []
    for name, shown in named:
        row = f'<div class="cf-named"><code>{_shown(name, 40)}</code>{shown}</div>'
        if sum(map(len, rows)) + len(row) > VALUES_CHARS:
            rows.append(f'<p class="cf-dim">… and {words.number(len(named) - len(rows))} more</p>')
            break
        rows.append(row)
    return section(title, "".join(rows))


def section(title: str, shown: str) -> str:
    """HTML under a heading; empty for nothing."""
    return f'<h4 class="cf-title">{escape(title)}</h4>{shown}' if shown else ""


def log(lines: Iterable[str]) -> str:
    """The last lines of output; what was printed is text, whatever is in it."""
    found = [line for text in lines for line in words.block(text, LOG_LINES, LINE_CHARS, is_tail=True)]
    return section("last output", f'<pre class="cf-output">{_lines(found[-LOG_LINES:])}</pre>' if found else "")


def traceback(text: str) -> str:
    """The whole traceback, folded."""
    shown = words.block(text, TRACEBACK_LINES, LINE_CHARS, is_tail=True) if text else []
    return folded("full traceback", f'<pre class="cf-code">{_lines(shown)}</pre>') if shown else ""


def folded(title: str, shown: str, is_open: bool = False) -> str:
    """HTML that opens on a click, without a script."""
    return f"<details{' open' * is_open}><summary>{escape(title)}</summary>{shown}</details>"


def unreadable(error: BaseException) -> str:
    """What to say where something cannot be read."""
    return f'<p class="cf-dim">cannot be shown: {_shown(type(error).__name__, 60)}: {_said(error)}</p>'


def _said(error: BaseException) -> str:
    try:
        return _shown(str(error), 300)
    except Exception as broken:  # noqa: BLE001 - a user's __str__
        return _shown(f"(its message raises {type(broken).__name__})", 80)


def _lines(lines: Sequence[str]) -> str:
    return escape("\n".join(lines))


def _shown(text: object, limit: int) -> str:
    return escape(words.plain(str(text), limit))
