"""Connections to a server: checked once, and patient with one that is away for a while."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError
from redis.retry import Retry

from celeryflow.errors import (
    ServerFullError,
    ServerTooOldError,
    ServerUnreachableError,
    UncheckedServerWarning,
    UnsuitableServerError,
)
from celeryflow.masking import mask, masked
from celeryflow.store import address

OLDEST = (7, 0)
KEEPS_ALL = "noeviction"

BRIEF, USUAL, FOREVER = 6.0, 24.0, math.inf
"""How many failures are borne: some 0.6 s, 10 s, and no end, of a server that refuses connections."""

REPLY_S, CHECK_S = 10.0, 3.0
"""How long a reply may take: that of a verb, and the first of all."""

SILENT, LOADING = 4.0, 0.1
"""What it counts that no reply came in 10 s, and that a server which has been started still reads its data: a minute
and two of either are borne as usual."""

Client: TypeAlias = Any
"""A ``redis.Redis`` that answers in bytes; the library's own types leave open what it answers."""


class Patience(Retry):
    """Repeats a call while the server is away, which every verb allows, and says by name why it gives up.

    Parameters
    ----------
    url : str
        The server, for messages.
    most : float
        Failures before it gives up. `FOREVER` also waits for room on a server that stores nothing more.
    between : callable
        Called after each failure; what it raises ends the call.
    waits_for_room : bool
        Whether `FOREVER` does so.
    """

    def __init__(self, url: str, most: float, between: Callable[[], None], waits_for_room: bool = True) -> None:
        super().__init__(NoBackoff(), 0)
        self._url, self._most, self._between = url, most, between
        self._waits_for_room = waits_for_room and most == FOREVER
        self._is_calling = False

    def call_with_retry(self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False) -> Any:
        """As of the library, which asks once more inside of a call where that has to connect again."""
        if self._is_calling:
            return do()
        self._is_calling = True
        try:
            return self.repeat(do, (lambda error: fail(error, 1)) if with_failure_count else fail)
        finally:
            self._is_calling = False

    def repeat(self, do: Callable[[], Any], fail: Callable[[Exception], Any]) -> Any:
        """Call `do` until it gives something; `fail` is told each time that no server answered."""
        failures = 0.0
        while True:
            try:
                return do()
            except redis.RedisError as error:
                if _is_away(error):
                    fail(error)  # which closes the connection: behind the address may be another server by now
                    failures += self._bear(error, failures)
                else:
                    self._await_room(error)

    def _bear(self, error: redis.RedisError, failures: float) -> float:
        """Wait for a server that is away; what the failure counts."""
        count = _weight(error)
        distrust = address.distrust(self._url, error)
        if distrust and self._most < FOREVER:
            raise ServerUnreachableError(distrust) from None
        if failures + count >= self._most or isinstance(error, redis.AuthenticationError):
            raise _unreachable(self._url, error) from None
        self._between()
        time.sleep(min(0.5, 0.01 * 2 ** min(failures + count, 6)))
        return count

    def _await_room(self, error: redis.RedisError) -> None:
        """Wait for a server that answers and stores nothing more; of anything else raise the error itself."""
        reason = _refusal(error)
        if not reason:
            raise error
        if not self._waits_for_room:
            raise ServerFullError(
                f"the server at {mask(self._url)} {reason}. Runs that wait for room go on by themselves."
            ) from None
        time.sleep(0.5)


class PatientPool(redis.ConnectionPool):
    """Connections whose `Patience` holds for taking one out, too: it may be cut as soon as it is made."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """As of the library, which makes a connection that was cut once more, and then raises."""
        take = super().get_connection
        return self.connection_kwargs["retry"].repeat(lambda: take(*args, **options), lambda _: None)


def _is_away(error: redis.RedisError) -> bool:
    """Whether no server answers, or one that was the primary before a failover: a replica now, which stores nothing."""
    away = redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, MasterDownError
    return isinstance(error, away) or "UNBLOCKED force unblock" in str(error)


def _unreachable(url: str, error: Exception) -> ServerUnreachableError:
    why = masked(str(error))
    if isinstance(error, redis.AuthenticationError):
        return ServerUnreachableError(
            f"the server at {mask(url)} lets nobody in by that user and password: {why}. They belong into the address, "
            "redis://USER:PASSWORD@HOST, which CELERYFLOW_URL keeps out of sight."
        )
    if not isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return ServerUnreachableError(
            f"the server at {mask(url)} is a replica, which stores nothing. Name the primary's address."
        )
    return ServerUnreachableError(
        f"no server answers at {mask(url)}: {why}. Is it running? cf.connect() without an address starts one."
    )


def _weight(error: Exception) -> float:
    if isinstance(error, redis.TimeoutError):
        return SILENT
    return LOADING if isinstance(error, redis.BusyLoadingError) else 1.0


def _refusal(error: redis.RedisError) -> str:
    """Why a server that answers stores nothing more; empty if it is not that."""
    if isinstance(error, redis.OutOfMemoryError):
        return "has reached its memory limit and stores nothing more. Raise maxmemory, or make room: celeryflow gc"
    _, is_disk, reason = str(error).partition("MISCONF ")
    return f"cannot write to its disk and stores nothing more ({reason}). Make room there" if is_disk else ""


def connect(
    url: str,
    patience: float = USUAL,
    between: Callable[[], None] = lambda: None,
    reply_s: float = REPLY_S,
    waits_for_room: bool = True,
) -> Client:
    """A client of the server at `url`; nothing is sent yet. See `Patience` for the rest.

    Its calls raise `ServerUnreachableError` and `ServerFullError`.

    Raises
    ------
    ServerError, ConfigError
        If `url` is no address, or names files that cannot be read.
    """
    options = {**address.tls(url), "retry": Patience(url, patience, between, waits_for_room)}
    try:
        pool = PatientPool.from_url(url, socket_timeout=reply_s, **options)
        pool.make_connection()  # which is not opened: options that nobody knows are found here
    except (ValueError, TypeError, redis.RedisError) as error:
        raise address.no_address(url, error) from None
    return redis.Redis.from_pool(pool)


def check(url: str) -> None:
    """See that the server answers, and that runs are safe with it.

    Raises
    ------
    ServerUnreachableError, ServerTooOldError, UnsuitableServerError
        With what was found and what is needed.

    Warns
    -----
    UncheckedServerWarning
        If the server's user may not ask for INFO.
    """
    client = connect(url, BRIEF, lambda: address.check_scheme(url), CHECK_S)
    try:
        found = client.info()
    except redis.exceptions.NoPermissionError:
        warnings.warn(
            f"the user of {mask(url)} may not ask for INFO, so nobody has seen whether the server is Redis 7.0 or "
            "Valkey 7.2 and later, a primary, no cluster, and evicts nothing (maxmemory-policy noeviction). To have "
            "that looked at: ACL SETUSER … +info",
            UncheckedServerWarning,
            stacklevel=4,
        )
        return
    finally:
        client.close()
    version = str(found["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ServerTooOldError(
            f"the server at {mask(url)} is version {version}; celeryflow needs Redis 7.0 or Valkey 7.2 and later."
        )
    reason = _unsuitable(found)
    if reason:
        raise UnsuitableServerError(f"the server at {mask(url)} {reason}")


def _unsuitable(found: dict[str, Any]) -> str:
    """Why a server cannot hold runs, by its INFO; empty if it can."""
    if str(found.get("cluster_enabled", 0)) == "1":
        return (
            "is part of a cluster (cluster-enabled yes), over which a run's keys cannot be spread. Use a server of its "
            "own, with replicas if you like: cluster-enabled no"
        )
    if found.get("role", "master") != "master":
        primary = f"{found.get('master_host', 'unknown')}:{found.get('master_port', '?')}"
        return (
            f"is a replica of {primary}, and takes no writes. Connect to its primary, or promote it: REPLICAOF NO ONE"
        )
    policy = found.get("maxmemory_policy", KEEPS_ALL)
    if policy != KEEPS_ALL:
        return (
            f"may throw keys of runs away when its memory is full (maxmemory-policy {policy}). "
            f"Set it: CONFIG SET maxmemory-policy {KEEPS_ALL}, and the same in its configuration file"
        )
    return ""
