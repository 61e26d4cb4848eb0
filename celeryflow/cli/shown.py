"""What the commands show: records for programs, lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeryflow.graph.model import Event, LogLine
    from celeryflow.run.run import Run
    from celeryflow.runtime.snapshot.fold import Snapshot
    from celeryflow.runtime.snapshot.record import StepRecord


def ps_lines(found: dict[str, Any], is_all: bool) -> Iterator[str]:
    """What runs, for people."""
    from celeryflow.view import words

    yield f"server   {found['url']}" + (f"  process {found['server_pid']}" if found["server_pid"] else "")
    workers = [f"{worker['worker']} with {worker['slots']} slots" for worker in found["workers"]]
    yield f"workers  {', '.join(workers) or 'none yet'}"
    if found["server_pid"]:
        kernels = ", ".join(map(str, found["kernel_pids"])) or "no kernel"
        yield f"used by  {kernels}" + (" and kept by celeryflow up" if found["is_pinned"] else "")
    rows = [
        (row["run"], row["status"] + (", no worker" if row["stalled"] else ""), words.seconds(row["duration_s"]))
        for row in found["runs"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield "runs     " + (
        str(len(rows)) if rows else "none yet" if is_all else "none now; --all lists those that are over"
    )
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def status_record(run: Run[Any], snapshot: Snapshot) -> dict[str, Any]:
    """How a run stands, and each of its steps."""
    now = time.time()
    return {
        "run": run.id,
        "workflow": snapshot.graph.name,
        "status": snapshot.status,
        "stalled": run.stalled,
        "unserved": snapshot.unserved,
        "reason": snapshot.reason or None,
        "progress": snapshot.progress,
        "submitted_at": snapshot.submitted_at,
        "finished_at": snapshot.finished_at,
        "duration_s": snapshot.duration_s(now),
        "steps": [_step_record(record, now) for record in snapshot.steps],
    }


def _step_record(record: StepRecord, now: float) -> dict[str, Any]:
    """The step's row of ``run.steps()``, as far as it says how the step stands."""
    return {
        "step": record.node.name,
        "phase": record.node.phase,
        "status": record.status,
        "items": record.length,
        "done": record.done,
        "failed": record.failed,
        "attempts": record.attempts,
        "duration_s": record.duration_s(now),
        "worker": record.worker or None,
        "error": record.error or None,
    }


def log_record(line: LogLine, snapshot: Snapshot) -> dict[str, Any]:
    """A line of output as ``run.logs()`` has it."""
    node = snapshot.nodes[line.node]
    return {
        "at": line.at,
        "step": node.name,
        "index": line.index if node.is_map and line.index >= 0 else None,
        "attempt": line.attempt,
        "worker": line.worker or None,
        "stream": line.stream,
        "text": line.text,
    }


def event_line(event: Event, snapshot: Snapshot) -> str:
    """A change of a run's state, for people."""
    from celeryflow.view.words import plain

    where = _place(snapshot, event.node, event.start, event.count)
    return f"{_clock(event.at)}  {event.event:<9}  {plain(f'{where}  {event.status} {event.error}', 500)}"


def log_line(line: LogLine, snapshot: Snapshot) -> str:
    """A line of output, for people."""
    from celeryflow.view.words import plain

    return f"{_clock(line.at)}  {_place(snapshot, line.node, line.index)}  {plain(line.text, 2000)}"


def _place(snapshot: Snapshot, node: int, start: int, count: int = 1) -> str:
    """``load``, ``clean[3]`` or ``clean[3:7]``; the workflow's name for the run itself."""
    if node < 0:
        return snapshot.graph.name
    name = snapshot.nodes[node].name
    if not snapshot.nodes[node].is_map or start < 0:
        return name
    return f"{name}[{start}]" if count == 1 else f"{name}[{start}:{start + count}]"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
