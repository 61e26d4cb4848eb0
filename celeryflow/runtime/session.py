"""The deployment that this process uses: an embedded runtime, or a server that was named."""

from __future__ import annotations

import atexit
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celeryflow.config import Settings
from celeryflow.engine.link import Link
from celeryflow.errors import ConfigError
from celeryflow.masking import mask
from celeryflow.runtime import embedded, pools, remote
from celeryflow.runtime.processes import is_alive, start_mark
from celeryflow.store import connect as server
from celeryflow.store.large import agree
from celeryflow.store.scripts import Store
from celeryflow.values import refusals


@dataclass(repr=False)
class Session:
    """A deployment in use by this process."""

    link: Link
    runtime: embedded.Runtime | None
    pid: int

    def __repr__(self) -> str:
        settings = self.link.settings
        return f"<Session at {mask(settings.url)}, prefix {settings.prefix!r}>"

    @property
    def owner(self) -> str:
        """A run's owner: this process."""
        return f"{socket.gethostname()}:{self.pid}:{start_mark(self.pid)}"

    def check(self) -> None:
        """See that workers can still come.

        Raises
        ------
        RuntimeStartError
            If the embedded runtime gave up; the message holds the last lines of its log.
        """
        if self.runtime is not None:
            self.runtime.check()


_session: Session | None = None


def connect(
    url: str | None = None,
    workers: int | None = None,
    key_file: str | None = None,
    blobs: str | None = None,
    prefix: str | None = None,
    insecure: bool | None = None,
    retention_s: float | None = None,
    blob_limit_bytes: int | None = None,
) -> Session:
    """Use a deployment from now on.

    Parameters
    ----------
    url : str, optional
        ``rediss://…`` of a server. Without it (and without ``CELERYFLOW_URL``) a server and workers are started for the
        current directory, or joined where another notebook has started them.
    workers : int, optional
        Worker processes of the embedded runtime, at least 1; by default one a core, or as many as run already. One that
        has another number of them is resized: steps that are running come to their end where they are. The server
        alone, for workers of your own (``celeryflow worker``), starts by ``celeryflow up -c 0``.
    key_file, blobs, prefix, insecure, retention_s, blob_limit_bytes : optional
        See `celeryflow.config.Settings`.

    Raises
    ------
    ServerUnreachableError, ServerTooOldError, UnsuitableServerError
        If no usable server answers at `url`.
    RuntimeStartError
        If the embedded runtime cannot start.
    ConfigError
        If a setting cannot be used, or workers of the deployment keep large values elsewhere.
    """
    settings = Settings.read(
        url=url, key_file=key_file, blobs=blobs, prefix=prefix, insecure=insecure, retention_s=retention_s,
        blob_limit_bytes=blob_limit_bytes,
    )  # fmt: skip
    if blobs and not settings.url:
        raise ConfigError(
            f"blobs={blobs!r} is for a server that url= names. Without one this directory's runtime keeps large "
            "values beside its state, in .celeryflow."
        )
    if not settings.retention_s > 0:
        raise ConfigError(f"retention_s must be a number of seconds over 0, not {settings.retention_s!r}.")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1, not {workers!r}.")
    fresh = _remote(settings) if settings.url else _embedded(settings, workers)
    try:
        if settings.url:
            agree(fresh.link.store, fresh.link.vault.blobs)
    except BaseException:
        fresh.link.close()
        raise
    return _use(fresh)


def visit(**place: Any) -> Session:
    """Use a server that is named as for `connect`, without a look at where large values are: none are written."""
    return _use(_remote(Settings.read(**place)))


def _use(fresh: Session) -> Session:
    global _session
    shutdown()
    _session = fresh
    return fresh


def current() -> Session:
    """The session of this process; an embedded one is started where there is none."""
    if _session is not None and _session.pid == os.getpid():
        return _session
    return connect()


def shutdown() -> None:
    """Leave the deployment; an embedded runtime that nobody else uses stops."""
    global _session
    session, _session = _session, None
    if session is not None and session.pid == os.getpid():
        session.link.close()
        if session.runtime is not None:
            session.runtime.leave()


def _embedded(settings: Settings, workers: int | None) -> Session:
    runtime = embedded.join(Path.cwd(), workers)
    kept: dict[str, Any] = {"retention_s": settings.retention_s, "blob_limit_bytes": settings.blob_limit_bytes}
    link = Link.open(Settings(**{**vars(runtime.settings), **kept}), between=runtime.check)
    if not runtime.goes_on_without_kernels():
        _park_abandoned(link.store, runtime.launch())
    return Session(link, runtime, os.getpid())


def _park_abandoned(store: Store, launch: str) -> None:
    """In a runtime that has just been started, runs of dead notebooks wait until somebody resumes them."""
    for run, owner in store.unfinished_runs() if store.is_first_of(launch) else ():
        host, _, process = owner.partition(":")
        pid, _, mark = process.partition(":")
        if host == socket.gethostname() and pid.isdigit() and not is_alive(int(pid), mark):
            store.park(run)


def _remote(settings: Settings) -> Session:
    remote.admit(settings)
    if settings.queues == "*":
        settings = replace(settings, queues=pools.queues_of_versions())
    link = Link.open(settings)
    server.check(settings.url)
    return Session(link, None, os.getpid())


def _count_refusal() -> None:
    if _session is not None and _session.pid == os.getpid():
        _session.link.count_refusal("client")


refusals.listeners.append(_count_refusal)
atexit.register(shutdown)
