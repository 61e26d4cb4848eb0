"""The runs that a deployment knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celeryflow.graph.states import State
from celeryflow.runtime import session as sessions

if TYPE_CHECKING:
    import pandas as pd


def history() -> pd.DataFrame:
    """A row a run of this deployment, the latest first."""
    from celeryflow.runtime.snapshot import frames

    return frames.history(history_rows())


def history_rows() -> list[dict[str, Any]]:
    """The runs of this deployment, the latest first."""
    store = sessions.current().link.store
    has_workers = bool(store.live_workers())
    store.end_late()
    found = []
    for run_id in store.run_ids():
        meta = store.meta(run_id)
        if meta:
            found.append(_history_row(run_id, meta, has_workers))
    return found


def _history_row(run_id: str, meta: dict[str, bytes], has_workers: bool) -> dict[str, Any]:
    status = meta["status"].decode()
    is_over = State(status).is_terminal and status != "pending"
    begun, ended = float(meta["submitted_at"]), float(meta.get("finished_at", 0)) or time.time()
    return {
        "run": run_id,
        "workflow": meta["workflow"].decode(),
        "status": status,
        "stalled": not is_over and (not has_workers or "parked" in meta),
        "submitted_at": begun,
        "duration_s": ended - begun,
        "steps": int(meta["nodes"]),
        "failed": int(meta.get("bad", 0)),
        "tenant": meta.get("tenant", b"").decode() or None,
    }
