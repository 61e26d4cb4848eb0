"""Connections to a server, checked once."""

from __future__ import annotations

from typing import Any, TypeAlias

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from celeryflow.errors import ServerError, ServerTooOldError, ServerUnreachableError

OLDEST = (7, 0)

Client: TypeAlias = Any
"""A ``redis.Redis`` that answers in bytes; the library's own types leave open what it answers."""

ConnectionLost = (redis.ConnectionError, redis.TimeoutError)
"""What the client library raises when the server is away."""


def connect(url: str, *, socket_timeout_s: float | None = 10.0) -> Client:
    """A client of the server at `url`; nothing is sent yet.

    A call whose reply was lost is repeated by the library, which every verb allows.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.01), 5)
    try:
        return redis.Redis.from_url(url, socket_timeout=socket_timeout_s, retry=retry)
    except ValueError as error:
        raise ServerError(f"{mask(url)!r} is not an address of a server: {error}") from None


def check(client: Client, url: str) -> None:
    """See that the server answers and can run the verbs.

    Raises
    ------
    ServerUnreachableError, ServerTooOldError
        With what was found and what is needed.
    """
    try:
        version = str(client.info("server")["redis_version"])
    except ConnectionLost as error:
        raise ServerUnreachableError(
            f"no server answers at {mask(url)}: {error}. Is it running? cf.connect() without an address starts one."
        ) from None
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ServerTooOldError(
            f"the server at {mask(url)} is version {version}; celeryflow needs Redis 7.0 or Valkey 7.2 and later."
        )


def mask(url: str) -> str:
    """The address without its password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else url
