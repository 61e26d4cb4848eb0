"""Where Runs come from: a traced workflow, on the workers or here, and the id of one that was started before."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from celeryflow.errors import (
    InvalidOptionError,
    ResumeConflictError,
    RunError,
    UnknownRunError,
    VersionMismatchError,
    did_you_mean,
)
from celeryflow.graph import checks
from celeryflow.graph.traced import Traced
from celeryflow.run.options import RunOptions
from celeryflow.run.run import Run
from celeryflow.runtime import session as sessions
from celeryflow.runtime.inline import Inline
from celeryflow.runtime.reuse.takeover import take_over
from celeryflow.runtime.sources import InlineSource, StoredSource
from celeryflow.store import cached, taken
from celeryflow.store.large import check_workers
from celeryflow.store.scripts import Store
from celeryflow.values import codec
from celeryflow.values.manifest import open_manifest, seal_run
from celeryflow.values.vault import PYTHON
from celeryflow.version import __version__
from celeryflow.view.live.shown import prepare

SHOWN = 3

RERUNS = ("changed", "failed")
"""What of a run `resume` runs again: what changed and what failed, or what failed alone."""


class Job(NamedTuple):
    """An id that runs are submitted under, what this one depends on, and the run that the job had when looked at."""

    id: str = ""
    mark: str = ""
    seen: str = ""


class JobTaken(Exception):
    """Another caller was first."""


NO_JOB = Job()


def submit(
    traced: Traced,
    run_id: str,
    options: RunOptions | None = None,
    reuse: Run[Any] | str | None = None,
    rerun: str = "changed",
    job: Job = NO_JOB,
) -> Run[Any]:
    """Start a traced workflow on the workers, with results of an earlier run and of steps with ``cache=True``.

    Raises
    ------
    JobTaken
        If another caller has started a run of the job since this one looked.
    """
    prepare(traced.graph)  # while the runtime starts, and the run is sealed
    session, tenant = sessions.current(), options and options.tenant
    link, graph = session.link, traced.graph
    workers = link.store.live_workers()
    _check_versions(workers)
    if session.runtime is None:
        check_workers(workers, link.vault.blobs)
    pool, base = link.settings.pool, _base(link.store, graph.name, reuse)
    signed = {"base": base, "rerun": rerun, "job": job.id, "job_mark": job.mark}
    sealed, result = seal_run(traced, run_id, link.vault, __version__, pool, **signed)
    link.store.stage(run_id, sealed)
    begun = take_over(link, run_id, sealed, base, rerun)
    facts = {"workflow": graph.name, "owner": session.owner, "pool": pool, **begun.facts}
    given = {"timeout_s": graph.timeout_s, "deadline_s": graph.deadline_s, "tenant": tenant, "job": job.id or None}
    given["blobs"] = link.vault.blobs.place if session.runtime is None else None
    if math.isfinite(link.settings.retention_s):
        given["retention_s"] = link.settings.retention_s
    facts |= {name: str(value) for name, value in given.items() if value is not None}
    try:
        if not link.store.submit(run_id, sealed, facts, graph.fail_fast, begun.parts, job.id, job.seen) and job.id:
            raise JobTaken
        cached.note(link.store, begun.cached, run_id, link.settings.retention_s)
        return Run(run_id, StoredSource(session, run_id, graph, result, pool, base))
    except KeyboardInterrupt:
        link.store.cancel(run_id, "interrupted")  # nobody else could end it
        raise


def _base(store: Store, workflow: str, reuse: Run[Any] | str | None) -> str:
    """Id of the run that `reuse` means; empty for none."""
    if isinstance(reuse, Run):
        if isinstance(reuse._source, InlineSource):
            raise InvalidOptionError(f"reuse={reuse.id!r} ran in this process, and its results are not stored.")
        return reuse.id
    if reuse is not None and not isinstance(reuse, str):
        raise InvalidOptionError(f'reuse= takes a Run, its id, or "latest", not {reuse!r:.200}.')
    if reuse == "latest":
        return taken.latest_run(store, workflow)
    return checks.check_name(reuse, "a run's id") if reuse else ""


def resume(
    run: Run[Any] | str,
    rerun: str,
    run_id: str,
    trace: Callable[..., Traced],
    workflow: str,
    options: RunOptions,
    job_of: Callable[[Traced], Job],
) -> Run[Any]:
    """Start `workflow` as `run_id` with the arguments of an earlier run, and with its results."""
    if rerun not in RERUNS:
        raise InvalidOptionError(f"rerun= must be one of {', '.join(map(repr, RERUNS))}, not {rerun!r}.")
    if not isinstance(run, (Run, str)):
        raise InvalidOptionError(f"resume() takes a Run or its id, not {run!r:.200}.")
    link = sessions.current().link
    earlier = _base(link.store, workflow, run)
    meta = link.store.meta(earlier)
    if "manifest" not in meta:
        raise UnknownRunError(
            f"no run {earlier!r} on this server.{did_you_mean(earlier, link.store.run_ids(), 'runs')}"
        )
    manifest = open_manifest(meta["manifest"], earlier, link.vault)
    if manifest.graph.name != workflow:
        raise RunError(
            f"run {earlier!r} is of workflow {manifest.graph.name!r}, not {workflow!r}. Resume it with that."
        )
    if manifest.arguments is None:
        raise RunError(
            f"run {earlier!r} did not store the arguments of {workflow!r}, as they do not pickle or there are none. "
            f"Give them again: {workflow}.run(…, reuse={earlier!r})."
        )
    if (other := taken.begin_resume(link.store, earlier, run_id)) is not None:
        what = f"is being resumed as {other!r}" if other else "is still running"
        raise ResumeConflictError(f"run {earlier!r} {what}. Wait for that, or end it with cancel().")
    try:
        ((args, kwargs),) = codec.unpack(link.vault.fetch(manifest.arguments))
        traced = trace(*args, **kwargs)
        return submit(traced, run_id, options, earlier, rerun, job_of(traced))
    except JobTaken:
        taken.forget_resume(link.store, earlier)
        raise ResumeConflictError(
            f"run {earlier!r} was not resumed: somebody else has started job {options.job_id!r} at this moment."
        ) from None
    except BaseException:
        taken.forget_resume(link.store, earlier)
        raise


def _check_versions(workers: dict[str, dict[str, str]]) -> None:
    if workers and not any((w["version"], w["python"]) == (__version__, PYTHON) for w in workers.values()):
        found = sorted(f"{w['version']} on Python {w['python']} ({_where(name, w)})" for name, w in workers.items())
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise VersionMismatchError(
            f"the workers run celeryflow {', '.join(found[:SHOWN])}{more}; this notebook, on {socket.gethostname()} in "
            f"{Path.cwd()}, has {__version__} on Python {PYTHON}. Use the same on both sides."
        )


def _where(worker: str, facts: dict[str, str]) -> str:
    return f"worker {worker} in {facts['directory']}" if "directory" in facts else f"worker {worker}"


def run_inline(traced: Traced, run_id: str, reuse: Run[Any] | str | None = None) -> Run[Any]:
    """Run a traced workflow here, where no results of other runs are: ``cache=True`` has no effect."""
    if reuse is not None:
        raise InvalidOptionError(
            "reuse= takes results that workers stored; with inline=True there are none. Leave one out."
        )
    inline = Inline(traced, run_id, __version__)
    inline.run()
    return Run(run_id, InlineSource(inline))


def attach(run_id: str) -> Run[Any]:
    """The run with that id, whoever started it.

    Raises
    ------
    UnknownRunError
        If the server knows no such run.
    InvalidNameError
        If it cannot be an id.
    """
    checks.check_name(run_id, "a run's id")
    session = sessions.current()
    meta = session.link.store.meta(run_id)
    if "manifest" not in meta:
        hint = did_you_mean(run_id, session.link.store.run_ids(), "runs")
        raise UnknownRunError(f"no run {run_id!r} on this server.{hint}")
    manifest = open_manifest(meta["manifest"], run_id, session.link.vault)
    pool = meta.get("pool", b"").decode()
    return Run(run_id, StoredSource(session, run_id, manifest.graph, manifest.result, pool, manifest.base))
