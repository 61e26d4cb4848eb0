"""Words and signs that text, page and picture have in common, and making foreign text harmless."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from keyword import iskeyword
from math import ceil

from celeryflow.graph.model import Role
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import Again, FirstFailure, StepRecord
from celeryflow.runtime.snapshot.summary import Summary
from celeryflow.runtime.snapshot.trail import CodeLine

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

INLINE = "inline"
"""The worker of a run in this process."""

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


def block(text: str, most_lines: int, most_chars: int, is_tail: bool = False) -> list[str]:
    r"""Lines that only show what they say, indented as they are: the first ones, or with `is_tail` the last.

    Of a line that was overwritten, as progress bars do, its last state. What is over the limits has an ellipsis.

    Examples
    --------
    >>> block("a:\n\t\x1b[31mb\x1b[0m\n10 %\r20 %", 10, 80)
    ['a:', '    b', '20 %']
    >>> block("a\nb\nc", 2, 80), block("a\nb\nc", 2, 80, is_tail=True)
    (['a', 'b', '…'], ['…', 'b', 'c'])
    """
    room = 4 * most_lines * most_chars
    piece = text[-room:] if is_tail else text[:room]
    found = _ESCAPES.sub("", piece.rstrip("\r\n")).replace("\r\n", "\n").split("\n")
    kept = found[-most_lines:] if is_tail else found[:most_lines]
    lines = [_visible(line.rpartition("\r")[2].expandtabs(4), most_chars) for line in kept]
    if len(found) > most_lines or len(piece) < len(text):
        lines = ["…", *lines] if is_tail else [*lines, "…"]
    return lines


def _visible(line: str, limit: int) -> str:
    shown = "".join(c for c in line[: 4 * limit] if unicodedata.category(c)[0] != "C").rstrip()
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


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


def counted(count: int, word: str) -> str:
    """A count of things: ``1 row``, ``336 rows``."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


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


def facts(snapshot: Snapshot, now: float | None = None, left_s: float | None = None) -> str:
    """How long, how long still, and how many workers hold something: ``5.8 s · about 4 s left · 2 workers busy``."""
    busy = len({claim.worker for record in snapshot.steps for claim in record.open.claims.values()})
    workers = f"{number(busy)} {'worker' if busy == 1 else 'workers'} busy" if busy else ""
    left = "" if left_s is None else f"about {seconds(max(1.0, ceil(left_s)))} left".replace(".0 s", " s")
    return " · ".join(part for part in (seconds(snapshot.duration_s(now)), left, workers) if part)


def failure_place(snapshot: Snapshot) -> tuple[str, str]:
    """Where and what the failure to show is: ``("validate[41]", "ValueError: …")``; empty without one."""
    failure, node = snapshot.first_failure()
    if failure is None:
        return "", ""
    item = "" if failure.index is None else f"[{failure.index}]"
    return plain(snapshot.nodes[node].name, 60) + item, plain(failure.error or failure.kind, 300)


def unserved(snapshot: Snapshot) -> list[str]:
    """A sentence for each queue that nobody serves."""
    return [plain(unserved_notice(queue, steps, snapshot.misfits), 800) for queue, steps in snapshot.unserved.items()]


def unserved_notice(queue: str, steps: list[str], misfits: str = "") -> str:
    """What to say of a queue that nobody serves; `misfits` is about workers of other versions."""
    start = f"Start one: celeryflow worker -Q {queue}"
    return f"no worker serves queue {queue!r}, in which {steps[0]!r} waits. {f'{misfits} ' if misfits else ''}{start}"


def failure_lines(snapshot: Snapshot) -> list[str]:
    """The user's own lines that led to the failure to show; none where they are not known."""
    return code_lines(snapshot.trail)


def code_lines(trail: Sequence[CodeLine]) -> list[str]:
    """A line a call, with where it is, and below it what stands there.

    Examples
    --------
    >>> code_lines([CodeLine("validate(table)", "cell 4, line 7", "check_clock(table.dep_time)")])
    ['  validate(table)   cell 4, line 7', '    check_clock(table.dep_time)']
    """
    calls = [plain(line.call, 60) for line in trail]
    width = max(map(len, calls), default=0)
    lines = []
    for call, line in zip(calls, trail, strict=True):
        lines.append(f"  {call:<{width}}   {plain(line.place, 80)}".rstrip())
        lines += [f"    {plain(line.source, 120)}"] if line.source else []
    return lines


def next_calls(snapshot: Snapshot) -> list[str]:
    """What to type next: calls on ``run``, or on the workflow by its name."""
    failure, node = snapshot.first_failure()
    if snapshot.status is State.SUCCESS:
        return ["run.result()", "run.steps()", *(["run.errors()"] if failure else [])]
    return calls_after(snapshot, failure, node)


def calls_after(snapshot: Snapshot, failure: FirstFailure | None, node: int) -> list[str]:
    """What to type after this failure of a node, or after a run that ended without one."""
    found = [] if failure is None else ["run.errors()", *_replay(snapshot.record_of(node), failure)]
    is_here = failure is not None and snapshot.record_of(node).worker == INLINE
    if snapshot.status in (State.FAILURE, State.CANCELLED) and not is_here:
        found.append("run.resume()")
    if snapshot.status is State.FAILURE and not is_here and _is_called_by_name(snapshot):
        found.append(f'{snapshot.graph.name}.resume(run, rerun="failed")')
    return found


def _replay(record: StepRecord, failure: FirstFailure) -> list[str]:
    """The call that runs what failed once more, here; none where that is nothing of the user's, or would be deadly."""
    node = record.node
    is_unsaid = node.is_map and failure.index is None
    if node.role not in (Role.CALL, Role.DECIDE) or failure.kind in ("memory", "poisoned") or is_unsaid:
        return []
    return [f"run.replay({quoted(node.name)}{'' if failure.index is None else f', {failure.index}'})"]


def _is_called_by_name(snapshot: Snapshot) -> bool:
    """Whether the workflow's name may well be that of a variable: it is a word, and not that of ``cf.map``'s step."""
    name, nodes = snapshot.graph.name, snapshot.graph.nodes
    is_single = len(nodes) == 1 and nodes[0].is_map and nodes[0].spec.name == name
    return name.isidentifier() and not iskeyword(name) and plain(name, 60) == name and not is_single


def quoted(name: str) -> str:
    """A name as a Python string.

    Examples
    --------
    >>> print(quoted("validate"), quoted('say "hello"'))
    "validate" 'say "hello"'
    """
    shown = plain(name, 60)
    return repr(shown) if '"' in shown or "\\" in shown else f'"{shown}"'
