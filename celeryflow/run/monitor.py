"""A run in a few plain values, for programs that watch it: a cron job, a dashboard, a chat message."""

from __future__ import annotations

from typing import Any

from celeryflow.errors import ArgumentError
from celeryflow.run.followed import Followed


def monitor(run: Followed) -> dict[str, Any]:
    """How far a run is, as of now.

    Parameters
    ----------
    run : Run
        Going on, or over.

    Returns
    -------
    dict
        - ``phases``: for each phase, in order, a dict with its name (``phase``), its ``status`` in words and its
          ``result``, as in ``run.phases()``: that of its last step once it succeeded, else None;
        - ``overall_progress``: the share of all steps that have ended, 0 to 1, each weighing the same. Those in no
          phase count, and so do those that failed or were skipped: it is 1 when nothing more is to come.

    Raises
    ------
    ArgumentError
        If it is no run.

    Examples
    --------
    >>> from celeryflow import workflow, step
    >>> run = workflow(lambda: step(len)("abc")).run(inline=True)
    >>> monitor(run)
    {'phases': [], 'overall_progress': 1.0}
    """
    if not isinstance(run, Followed):
        raise ArgumentError(f"cf.monitor takes a Run, as of .submit(…) or cf.attach(…), not {run!r:.200}.")
    frame = run.phases()
    rows = zip(frame["phase"], frame["status"], frame["result"], strict=True)
    phases = [{"phase": str(name), "status": str(status), "result": result} for name, status, result in rows]
    return {"phases": phases, "overall_progress": run.seen.progress}
