"""Snapshot -> DataFrames: fixed columns and real dtypes, the same when empty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from celeryflow.graph.model import Event, Failure, LogLine, Node
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import expand as ex
from celeryflow.runtime.snapshot import tasks
from celeryflow.runtime.snapshot.attempts import OUTCOMES, STATES
from celeryflow.runtime.snapshot.fold import Snapshot

Keys = Callable[[int], Sequence[str] | None]
"""Gives the keys of a map's items from its node's index; None where it has none."""

KINDS = ["exception", "timeout", "memory", "poisoned", "cancelled", "deadline"]
"""Kinds of failures."""

WORKERS = (1, 2, 4, 8, 16, 32, 64)
"""For so many `critical_path` says how long the run would take."""

STATE = pd.CategoricalDtype([str(state) for state in STATES])
OUTCOME = pd.CategoricalDtype([str(outcome) for outcome in OUTCOMES])
KIND = pd.CategoricalDtype(KINDS)
TIME = pd.DatetimeTZDtype("ns", "UTC")
TEXT = pd.Series(["text"]).dtype
"""What this pandas keeps strings in: ``str`` from 3.0 on, ``object`` before."""


def phases(snapshot: Snapshot, results: Mapping[str, object]) -> pd.DataFrame:
    """One row a phase, in order; steps outside a phase are in none.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    results : mapping of str to object
        Value of each phase that has one.
    """
    rows = snapshot.phases()
    return pd.DataFrame(
        {
            "phase": _texts(row.name for row in rows),
            "status": _categories((row.status for row in rows), STATE),
            "steps": _whole(row.steps for row in rows),
            "done": _whole(row.done for row in rows),
            "failed": _whole(row.failed for row in rows),
            "skipped": _whole(row.skipped for row in rows),
            "progress": _reals(row.progress for row in rows),
            "started_at": _times(row.started_at for row in rows),
            "finished_at": _times(row.finished_at for row in rows),
            "duration_s": _reals(row.duration_s for row in rows),
            "work_s": _reals(row.work_s for row in rows),
            "result": pd.Series([results.get(row.name) for row in rows], dtype=object),
        }
    )


def steps(snapshot: Snapshot) -> pd.DataFrame:
    """One row a step, in the order of the workflow."""
    records, now = snapshot.steps, snapshot.last_at or 0.0
    return pd.DataFrame(
        {
            "step": _texts(r.node.name for r in records),
            "phase": _texts(r.node.phase for r in records),
            "status": _categories((r.status for r in records), STATE),
            "items": pd.Series([r.length for r in records], dtype="Int64"),
            "done": _whole(r.done for r in records),
            "failed": _whole(r.failed for r in records),
            "attempts": _whole(r.attempts for r in records),
            "queue": _texts(r.node.spec.queue for r in records),
            "priority": _whole(r.node.spec.priority for r in records),
            "queue_wait_s": _reals(r.queue_wait_s for r in records),
            "duration_s": _reals(r.duration_s(now) for r in records),
            "output_bytes": _whole(r.output_bytes for r in records),
            "reused": pd.Series([r.is_reused for r in records], dtype=bool),
            "worker": _texts(r.worker or None for r in records),
            "error": _texts(r.error or None for r in records),
        }
    )


def items(snapshot: Snapshot, step: str, keys: Sequence[str] | None) -> pd.DataFrame:
    """One row an item of a map; a plain step has one, of index 0.

    Times, worker and duration are the latest attempt's.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    step : str
        Name of the step.
    keys : sequence of str or None
        Key of each item.

    Raises
    ------
    UnknownStepError
        The run has no such step.
    """
    record = snapshot.record(step)
    rows = ex.expand(snapshot, record.node.index)
    state = ex.items(snapshot, record, rows)
    last, length = state.last, record.length or 0
    is_good = state.state == STATES.index(State.SUCCESS)
    return pd.DataFrame(
        {
            "index": pd.Series(np.arange(length), dtype="Int64"),
            "key": _texts(_key_of(keys, np.arange(length))),
            "status": _coded(state.state, STATE),
            "attempts": pd.Series(state.attempts, dtype="int64"),
            "started_at": _at(_pick(rows.started_at, last)),
            "duration_s": _pick(rows.duration_s, last),
            "worker": _texts(_pick_text(rows.worker, last)),
            "error": _texts(_blank(state.reason, is_good | (state.reason == ""))),
        }
    )


def timeline(snapshot: Snapshot, keys: Keys) -> pd.DataFrame:
    """One row an attempt of a step or item, those under way last, without an outcome."""
    rows = ex.expand(snapshot)
    size = max(snapshot.nodes, default=-1) + 1
    is_map, names = np.zeros(size, dtype=bool), np.full(size, "", dtype=object)
    for index, node in snapshot.nodes.items():
        is_map[index], names[index] = node.is_map, node.name
    is_map = is_map[rows.node]
    return pd.DataFrame(
        {
            "generation": pd.Series(rows.generation, dtype="int64"),
            "step": _texts(names[rows.node]),
            "index": _whole_or_none(rows.item, is_map & (rows.item >= 0)),
            "key": _texts(_keys_of(snapshot, rows, keys)),
            "attempt": pd.Series(rows.attempt, dtype="int64"),
            "worker": _texts(_blank(rows.worker, rows.worker == "")),
            "ready_at": _at(ex.ready_at(snapshot, rows)),
            "claimed_at": _at(rows.claimed_at),
            "started_at": _at(rows.started_at),
            "finished_at": _at(rows.finished_at),
            "outcome": _coded(rows.outcome, OUTCOME),
            "reason": _texts(_blank(rows.reason, rows.reason == "")),
        }
    )


def critical_path(snapshot: Snapshot, keys: Keys) -> pd.DataFrame:
    """One row a step or item of the longest chain of what ran, in order, and how long the run takes with more workers.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    keys : callable
        Gives the keys of a map's items from its node's index.
    """
    rows = ex.expand(snapshot)
    path = tasks.critical_path(snapshot, rows)
    is_on_it, length = path.place >= 0, len(path.duration_s)
    at, mine = path.place[is_on_it], rows.where(is_on_it)
    waited_s = np.nan_to_num(np.fmax(rows.started_at - ex.ready_at(snapshot, rows), 0.0)[is_on_it])
    last = np.full(length, -1)
    last[at] = np.arange(len(at))
    latest = mine.where(last)
    nodes = [snapshot.nodes[node] for node in latest.node.tolist()]
    is_item = np.array([node.is_map for node in nodes], dtype=bool) & (latest.item >= 0)
    makespans = zip(WORKERS, path.schedule.makespans(WORKERS), strict=True)
    return pd.DataFrame(
        {
            "step": _texts(node.name for node in nodes),
            "index": _whole_or_none(latest.item, is_item),
            "key": _texts(_keys_of(snapshot, latest, keys)),
            "attempts": pd.Series(np.bincount(at, minlength=length), dtype="int64"),
            "worker": _texts(_blank(latest.worker, latest.worker == "")),
            "started_at": _at(_least(mine.started_at, at, length)),
            "finished_at": _at(-_least(-mine.finished_at, at, length)),
            "duration_s": pd.Series(path.duration_s, dtype="float64"),
            "queue_wait_s": pd.Series(np.bincount(at, waited_s, length), dtype="float64"),
            "share": pd.Series(path.duration_s / (path.schedule.critical_path_s or 1.0), dtype="float64"),
            **{f"makespan_{n}_s": pd.Series(np.full(length, seconds)) for n, seconds in makespans},
        }
    )


def errors(snapshot: Snapshot, failures: Sequence[tuple[int, int | None, Failure]], keys: Keys) -> pd.DataFrame:
    """One row a failed step or item.

    Parameters
    ----------
    snapshot : Snapshot
        The run.
    failures : sequence of (int, int or None, Failure)
        Index of the node, of the item (None for a plain step), and why.
    keys : callable
        Gives the keys of a map's items from its node's index.
    """
    nodes, known = snapshot.nodes, {node: keys(node) for node in {node for node, _, _ in failures}}
    return pd.DataFrame(
        {
            "step": _texts(nodes[node].name for node, _, _ in failures),
            "index": pd.Series([index for _, index, _ in failures], dtype="Int64"),
            "key": _texts(_one_key(known[node], index) for node, index, _ in failures),
            "kind": _categories((failure.kind for _, _, failure in failures), KIND),
            "error": _texts(failure.error for _, _, failure in failures),
            "message": _texts(failure.message for _, _, failure in failures),
            "traceback": _texts(failure.traceback for _, _, failure in failures),
            "log_tail": _texts(failure.log_tail for _, _, failure in failures),
            "attempt": _whole(failure.attempt for _, _, failure in failures),
            "worker": _texts(failure.worker or None for _, _, failure in failures),
        }
    )


def logs(lines: Sequence[LogLine], nodes: Mapping[int, Node]) -> pd.DataFrame:
    """One row a line of captured output."""
    is_item = np.array([nodes[line.node].is_map and line.index >= 0 for line in lines], dtype=bool)
    return pd.DataFrame(
        {
            "at": _times(line.at for line in lines),
            "step": _texts(nodes[line.node].name for line in lines),
            "index": _whole_or_none(np.array([line.index for line in lines], dtype=np.int64), is_item),
            "attempt": _whole(line.attempt for line in lines),
            "worker": _texts(line.worker or None for line in lines),
            "stream": _texts(line.stream for line in lines),
            "text": _texts(line.text for line in lines),
        }
    )


def events(events: Iterable[Event], run: str, nodes: Mapping[int, Node]) -> pd.DataFrame:
    """One row an event; `items` is ``[first, past the last]``."""
    names = {index: node.name for index, node in nodes.items()}
    rows = [event.public(run, names) for event in events]
    return pd.DataFrame(
        {
            "seq": _whole(row["seq"] for row in rows),
            "at": _times(row["at"] for row in rows),
            "run": _texts(row["run"] for row in rows),
            "event": _texts(row["event"] for row in rows),
            "step": _texts(row["step"] for row in rows),
            "items": pd.Series([row["items"] for row in rows], dtype=object),
            "attempt": pd.Series([row["attempt"] for row in rows], dtype="Int64"),
            "generation": _whole(row["generation"] for row in rows),
            "worker": _texts(row["worker"] for row in rows),
            "status": _categories((row["status"] for row in rows), STATE),
            "error": _texts(row["error"] for row in rows),
        }
    )


def history(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run: mappings with the frame's columns as keys, times in seconds since 1970."""
    return pd.DataFrame(
        {
            "run": _texts(row["run"] for row in rows),
            "workflow": _texts(row["workflow"] for row in rows),
            "status": _categories((row["status"] for row in rows), STATE),
            "stalled": pd.Series([bool(row.get("stalled")) for row in rows], dtype=bool),
            "submitted_at": _times(row.get("submitted_at") for row in rows),
            "duration_s": _reals(row.get("duration_s") for row in rows),
            "steps": _whole(row.get("steps") or 0 for row in rows),
            "failed": _whole(row.get("failed") or 0 for row in rows),
            "tenant": _texts(row.get("tenant") for row in rows),
        }
    )


# --- columns -------------------------------------------------------------------------------


def _texts(values: Iterable[str | None]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype=TEXT)


def _whole(values: Iterable[int]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype="int64")


def _whole_or_none(values: ex.Ints, is_known: Any) -> pd.Series[Any]:
    return pd.Series(pd.arrays.IntegerArray(values.astype(np.int64), ~is_known))


def _reals(values: Iterable[float | None]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype="float64")


def _categories(values: Iterable[str | None], dtype: pd.CategoricalDtype) -> pd.Series[Any]:
    return pd.Series(pd.Categorical([None if v is None else str(v) for v in values], dtype=dtype))


def _coded(codes: ex.Ints, dtype: pd.CategoricalDtype) -> pd.Series[Any]:
    return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype))


def _times(values: Iterable[float | None]) -> pd.Series[Any]:
    return _at(np.array(list(values), dtype=np.float64))


def _at(seconds: ex.Floats) -> pd.Series[Any]:
    """Seconds since 1970 as times; to the microsecond, which is what a double holds of them."""
    is_known = np.isfinite(seconds)
    micros = np.round(np.where(is_known, seconds, 0.0) * 1e6).astype(np.int64)
    stamps = np.where(is_known, (micros * 1000).view("M8[ns]"), np.datetime64("NaT", "ns"))
    return pd.Series(pd.DatetimeIndex(stamps, dtype="datetime64[ns]").tz_localize("UTC"), dtype=TIME)


def _pick(column: ex.Floats, at: ex.Ints) -> ex.Floats:
    return np.append(column, np.nan)[at]


def _pick_text(column: Any, at: ex.Ints) -> Any:
    texts = np.append(column, "")[at]
    return _blank(texts, texts == "")


def _least(column: ex.Floats, at: ex.Ints, size: int) -> ex.Floats:
    """The least of the numbers of each place; NaN where none is known."""
    found = np.full(size, np.nan)
    np.fmin.at(found, at, column)
    return found


def _blank(texts: Any, where: Any) -> Any:
    blanked = texts.copy()
    blanked[where] = None
    return blanked


def _key_of(keys: Sequence[str] | None, at: ex.Ints) -> Any:
    """Keys of these items; None past the end of `keys`, and for item -1."""
    known = np.array([*(keys or ()), None], dtype=object)
    return known[np.where((at >= 0) & (at < len(known)), at, len(known) - 1)]


def _one_key(keys: Sequence[str] | None, index: int | None) -> str | None:
    return keys[index] if keys is not None and index is not None and 0 <= index < len(keys) else None


def _keys_of(snapshot: Snapshot, rows: ex.Rows, keys: Keys) -> Any:
    found = np.full(len(rows), None, dtype=object)
    for node in np.unique(rows.node).tolist():
        if snapshot.nodes[node].is_map:
            mine = rows.node == node
            found[mine] = _key_of(keys(node), rows.item[mine])
    return found
