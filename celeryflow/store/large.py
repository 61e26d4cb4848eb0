"""Where a deployment keeps large values, as its settings say, and whether all of its processes say the same."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from celeryflow.config import Settings
from celeryflow.errors import ConfigError, StorageError
from celeryflow.store.collect import deployment
from celeryflow.store.connect import connect
from celeryflow.store.scripts import Store
from celeryflow.store.server_blobs import ServerBlobs
from celeryflow.values.blobs.files import FileBlobs
from celeryflow.values.blobs.place import Blobs

CHUNK_TIMEOUT_S = 60.0
"""A chunk of a large value may take so long: 16 MiB over a slow link."""


def open_blobs(settings: Settings, store: Store, patience: float, between: Callable[[], None]) -> Blobs:
    """The place that the settings name; nothing is sent yet.

    Raises
    ------
    ConfigError
        If there can be no such place.
    """
    kind, is_url, path = settings.blobs.partition("://")
    if not settings.blobs:
        return ServerBlobs(store, connect(settings.url, patience, between, CHUNK_TIMEOUT_S, waits_for_room=False))
    if not is_url or kind in ("file", "local"):
        return FileBlobs(path if is_url else settings.blobs)
    from celeryflow.store.object_blobs import ObjectBlobs  # fsspec takes 0.1 s, and few need it

    return ObjectBlobs(settings.blobs, store)


def agree(store: Store, blobs: Blobs) -> None:
    """See that this process can keep large values where the workers of the deployment do, and say that it does.

    Raises
    ------
    ConfigError
        If it cannot, or they keep them elsewhere.
    """
    workers = store.live_workers()
    check_workers(workers, blobs)
    own, host = deployment(store), socket.gethostname()
    try:
        others = {name for name in workers if name.rpartition(":")[0] != host}
        if others and own not in blobs.users():
            raise ConfigError(
                f"blobs: {blobs.place} on {host} is not what it is for worker {min(others)}: nothing says that this "
                "deployment keeps values there. Is it mounted here, or another server's?"
            )
        blobs.mark(own)
    except StorageError as error:
        raise ConfigError(
            f"blobs: {error} See that it exists, and that this process may read and write there."
        ) from None


def check_workers(workers: Mapping[str, Mapping[str, str]], blobs: Blobs) -> None:
    """See that these workers keep large values where this process does; they are given by their facts.

    Raises
    ------
    ConfigError
        If one of them does not.
    """
    for name, facts in sorted(workers.items()):
        check_place(facts.get("blobs", ""), f"worker {name}", blobs.place, "this process")


def check_place(theirs: str, who: str, mine: str, me: str) -> None:
    """See that two places are the same; an unknown one is.

    Raises
    ------
    ConfigError
        If they differ, naming both.
    """
    if theirs and theirs != mine:
        raise ConfigError(
            f"blobs: {who} keeps large values in {theirs}, and {me} in {mine}: neither would find the other's. "
            "Say the same on both sides: blobs= of cf.connect(), --blobs of celeryflow worker, or CELERYFLOW_BLOBS."
        )
