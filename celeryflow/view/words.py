"""Words and signs that text, page and picture have in common, and making foreign text harmless."""

from __future__ import annotations

import re
import unicodedata
from math import ceil

from celeryflow.graph.model import Role
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import Again, StepRecord
from celeryflow.runtime.snapshot.summary import Summary

GLYPHS: dict[State, str] = {
    State.PENDING: "○",
    State.READY: "○",
    State.RUNNING: "▸",
    State.RETRYING: "↻",
    State.SUCCESS: "✓",
    State.FAILURE: "✕",
    State.SKIPPED: "⊘",
    State.CANCELLED: "⊘",
}
"""A sign for each state, so that colour is not all that tells them apart."""

SIGNS: dict[Role, str] = {Role.DECIDE: "◇ ", Role.EXPAND: "⊞ "}
"""What stands before the name of a step that decides, and of one that adds steps while the run goes on."""

TIMES = "\N{MULTIPLICATION SIGN}"

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?", re.DOTALL)
_SPACES = re.compile(r"\s+")


def plain(text: str, limit: int = 200) -> str:
    r"""Text on one line that only shows what it says.

    Escape sequences, control and direction characters and lone surrogates are removed, white space
    becomes single spaces, and what is over `limit` characters ends with an ellipsis.

    Examples
    --------
    >>> plain("load\n\x1b[31mred\x1b[0m\u202e")
    'load red'
    >>> plain("abcdef", limit=4)
    'abc…'
    """
    # Only so much is looked at: a text of megabytes must not cost a redraw.
    head = _SPACES.sub(" ", _ESCAPES.sub("", text[: 8 * limit]))
    shown = "".join(c for c in head if unicodedata.category(c)[0] != "C").strip()
    return shown if len(shown) <= limit and len(text) <= 8 * limit else shown[: limit - 1] + "…"


def seconds(duration_s: float | None) -> str:
    """A duration as people read it; empty for None.

    Examples
    --------
    >>> [seconds(s) for s in (None, 0.0042, 1.23, 75.4, 7380)]
    ['', '4 ms', '1.2 s', '1 min 15 s', '2 h 3 min']
    """
    if duration_s is None:
        return ""
    if duration_s < 0.1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 59.95:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def number(count: int) -> str:
    """A count with thin groups of thousands: ``100,000``."""
    return f"{count:,}"


def count(row: Summary) -> str:
    """What succeeded of what there is: ``212 / 336``, with ``+`` while a length is unknown."""
    return f"{number(row.done)} / {number(row.items)}{'+' if row.is_open else ''}"


def troubles(row: Summary) -> str:
    """What went wrong so far: ``3 failed · 1 retrying``; empty when nothing did."""
    parts = [
        f"{number(n)} {word}"
        for n, word in (
            (row.failed, "failed"),
            (row.skipped, "skipped"),
            (row.cancelled, "cancelled"),
            (row.retries if row.retries > 1 else 0, "retrying"),
        )
        if n
    ]
    return " · ".join([*parts, again(row.again, row.again_in_s)] if row.again else parts)


def again(what: Again, in_s: float = 0.0) -> str:
    """What is tried again, when, and the how manieth time of how many: ``failed, retrying in 4 s (1 of 2)``."""
    wait = f" in {ceil(in_s)} s" if 1 <= in_s < 60 else f" in {seconds(in_s)}" if in_s >= 0.05 else ""
    count = f" ({what.tries} of {what.most})" if what.tries else ""
    return f"{'worker lost' if what.is_lost else 'failed'}, retrying{wait}{count}"


def reused(row: Summary) -> str:
    """What is an earlier run's: ``reused`` for everything, else how many items; empty for none."""
    if not row.reused:
        return ""
    return "reused" if row.reused == row.items else f"{number(row.reused)} reused"


def note(record: StepRecord, now: float) -> str:
    """The second line of a step in the picture: how far, how long, or what is wrong; and how many steps it added."""
    inside = f"{number(record.inside)} inside" if record.inside else ""
    return " · ".join(part for part in (_note(record, now), inside) if part)


def _note(record: StepRecord, now: float) -> str:
    if record.is_lost and not record.running:
        return f"worker lost{_of(record)}"
    if record.status in (State.PENDING, State.READY):
        return ""
    if record.is_reused:
        return f"{number(record.reused)} reused" if record.node.is_map else "reused"
    if record.node.is_map:
        failed = f" · {number(record.failed)} {GLYPHS[State.FAILURE]}" if record.failed else ""
        return "" if record.length is None else f"{number(record.done)} / {number(record.length)}{failed}"
    if record.status is State.RETRYING:
        return f"retry {record.attempt} of {max(record.attempt, record.node.spec.retries)}"
    if record.status in (State.SKIPPED, State.CANCELLED, State.FAILURE):
        return {"skipped": "skipped", "cancelled": "cancelled"}.get(record.status, "failed")
    return seconds(record.duration_s(now))


def _of(record: StepRecord) -> str:
    latest = [*record.again.values()][-1:]
    return f", retry {latest[0].tries} of {latest[0].most}" if latest and latest[0].tries else ""


def label(record: StepRecord) -> str:
    """Name of a step in the picture, after the sign of what it is; for a map, times its length."""
    name = SIGNS.get(record.node.role, "") + step_name(record)
    if not record.node.is_map:
        return name
    return f"{name} {TIMES} {'?' if record.length is None else number(record.length)}"


def step_name(record: StepRecord) -> str:
    """The function's own name with the number of its use: ``prüfen``, ``prüfen-2``."""
    name, spec = record.node.name, record.node.spec
    return plain(spec.label + name.removeprefix(spec.name) if name.startswith(spec.name) else name, 60)


def facts(snapshot: Snapshot, now: float | None = None) -> str:
    """How long, and how many workers hold something: ``5.8 s · 2 workers busy``."""
    busy = len({claim.worker for record in snapshot.steps for claim in record.open.claims.values()})
    workers = f"{number(busy)} {'worker' if busy == 1 else 'workers'} busy" if busy else ""
    return " · ".join(part for part in (seconds(snapshot.duration_s(now)), workers) if part)


def failure_place(snapshot: Snapshot) -> tuple[str, str]:
    """Where and what the failure to show is: ``("validate[41]", "ValueError: …")``; empty without one."""
    failure, node = snapshot.first_failure()
    if failure is None:
        return "", ""
    item = "" if failure.index is None else f"[{failure.index}]"
    return plain(snapshot.nodes[node].name, 60) + item, plain(failure.error or failure.kind, 300)


def unserved(snapshot: Snapshot) -> list[str]:
    """A sentence for each queue that nobody serves."""
    return [plain(unserved_notice(queue, steps), 500) for queue, steps in snapshot.unserved.items()]


def unserved_notice(queue: str, steps: list[str]) -> str:
    """What to say of a queue that nobody serves."""
    return f"no worker serves queue {queue!r}, in which {steps[0]!r} waits. Start one: celeryflow worker -Q {queue}"


def next_calls(snapshot: Snapshot) -> list[str]:
    """What to type next: calls on ``run``, or on the workflow by its name."""
    failure, node = snapshot.first_failure()
    name = "" if failure is None else plain(snapshot.nodes[node].name, 60)
    calls = ["run.errors()"] if failure is not None else []
    if snapshot.status is State.SUCCESS:
        return ["run.result()", "run.steps()", *calls]
    if failure is not None and snapshot.nodes[node].is_map:
        calls.append(f'run.value("{name}", partial=True)')
    elif failure is not None:
        calls.append(f'run.logs("{name}")')
    return calls
