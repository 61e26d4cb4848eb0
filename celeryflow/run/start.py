"""Where Runs come from: a traced workflow, on the workers or here, and the id of one that was started before."""

from __future__ import annotations

from typing import Any

from celeryflow.errors import UnknownRunError, VersionMismatchError, did_you_mean
from celeryflow.graph import checks
from celeryflow.graph.trace import Traced
from celeryflow.run.options import RunOptions
from celeryflow.run.run import Run
from celeryflow.runtime import session as sessions
from celeryflow.runtime.inline import Inline
from celeryflow.runtime.sources import InlineSource, StoredSource
from celeryflow.values.manifest import open_manifest, seal_run
from celeryflow.values.vault import PYTHON
from celeryflow.version import __version__


def submit(traced: Traced, run_id: str, options: RunOptions | None = None) -> Run[Any]:
    """Start a traced workflow on the workers."""
    session, tenant = sessions.current(), options and options.tenant
    link, graph = session.link, traced.graph
    _check_versions(link.store.live_workers())
    pool = link.settings.pool
    sealed, result = seal_run(traced, run_id, link.vault, __version__, pool)
    link.store.put_code(sealed.code, link.settings.retention_s)
    link.store.stage(run_id, sealed)
    facts = {"workflow": graph.name, "owner": session.owner, "pool": pool}
    given = {"timeout_s": graph.timeout_s, "deadline_s": graph.deadline_s, "tenant": tenant}
    facts |= {name: str(value) for name, value in given.items() if value is not None}
    link.store.submit(run_id, sealed, facts, graph.fail_fast)
    return Run(run_id, StoredSource(session, run_id, graph, result, pool))


def _check_versions(workers: dict[str, dict[str, str]]) -> None:
    if workers and not any((w["version"], w["python"]) == (__version__, PYTHON) for w in workers.values()):
        found = ", ".join(sorted({f"{w['version']} on Python {w['python']}" for w in workers.values()}))
        raise VersionMismatchError(
            f"the workers run celeryflow {found}; this notebook has {__version__} on Python {PYTHON}. "
            "Use the same on both sides."
        )


def run_inline(traced: Traced, run_id: str) -> Run[Any]:
    """Run a traced workflow here."""
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
    return Run(run_id, StoredSource(session, run_id, manifest.graph, manifest.result, pool))
