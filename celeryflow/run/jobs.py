"""Runs by job id: of all that is submitted under one, a single run goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celeryflow.errors import IntegrityError, JobConflictError, ResumeConflictError
from celeryflow.graph.states import State
from celeryflow.graph.traced import Traced
from celeryflow.run.options import RunOptions
from celeryflow.run.run import Run
from celeryflow.run.start import NO_JOB, Job, JobTaken, attach, submit
from celeryflow.runtime import session as sessions
from celeryflow.runtime.reuse.keys import Hasher
from celeryflow.values.manifest import open_manifest


def start(
    traced: Traced, new_id: Callable[[], str], options: RunOptions, reuse: Run[Any] | str | None = None
) -> Run[Any]:
    """A run of a traced workflow: a new one, or that of its job.

    Raises
    ------
    JobConflictError
        If the job's run goes on, with other arguments or code.
    """
    if options.job_id is None:
        return submit(traced, new_id(), options, reuse)
    mark = fingerprint(traced)
    while True:
        seen = sessions.current().link.store.run_of_job(options.job_id)
        run, is_same = _find(options.job_id, seen, mark)
        if run is not None and is_same:
            return run
        with suppress(JobTaken):
            return submit(traced, new_id(), options, reuse or run, job=Job(options.job_id, mark, seen))


def job_of(options: RunOptions, traced: Traced) -> Job:
    """What a run that is to be the job's next one is submitted as.

    Raises
    ------
    JobConflictError
        If the job's run goes on.
    """
    if options.job_id is None:
        return NO_JOB
    store = sessions.current().link.store
    seen = store.run_of_job(options.job_id)
    meta = store.meta(seen) if seen else {}
    if "status" in meta and not (State(meta["status"].decode()).is_terminal or "parked" in meta):
        raise JobConflictError(
            f"job {options.job_id!r} is going on as run {seen!r}. Wait for it, or end it with "
            f"cf.attach({seen!r}).cancel()."
        )
    return Job(options.job_id, fingerprint(traced), seen)


def _find(job: str, seen: str, mark: str) -> tuple[Run[Any] | None, bool]:
    """The job's run, and whether it is of the same arguments and code: then it is resumed where it has failed."""
    link = sessions.current().link
    meta = link.store.meta(seen) if seen else {}
    if "manifest" not in meta:  # there is none, or it has expired
        return None, False
    manifest = open_manifest(meta["manifest"], seen, link.vault)
    if manifest.job != job:
        raise IntegrityError(f"the server says that run {seen!r} is of job {job!r}, which it is not.")
    is_over = State(meta["status"].decode()).is_terminal or "parked" in meta
    is_same = manifest.job_mark == mark
    if not is_same and not is_over:
        raise JobConflictError(
            f"job {job!r} is going on as run {seen!r}, with other arguments or code than now. Wait for it, "
            f"end it with cf.attach({seen!r}).cancel(), or give this one a job_id of its own."
        )
    run = attach(seen)
    if is_same and is_over:
        with suppress(ResumeConflictError):  # somebody else does it
            run.resume()
    return run, is_same


def fingerprint(traced: Traced) -> str:
    """What a run depends on: the functions, arguments and wiring of its steps, and what it returns."""
    hasher = Hasher({node.index: b"%d" % node.index for node in traced.graph.nodes})
    calls = [
        [
            node.name, node.role.value, node.on_error.value, [[i.node, i.edge.value, i.choice] for i in node.inputs],
            call.callee.function, call.args, call.kwargs, [[m.items, m.keys, m.hole] for m in call.mapped],
        ]
        for node, call in zip(traced.graph.nodes, traced.calls, strict=True)
    ]  # fmt: skip
    return hasher.digest([traced.graph.name, calls, traced.result]).hex()
