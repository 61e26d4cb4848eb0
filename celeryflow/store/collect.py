"""What nobody needs any more: runs whose time to be kept is over, and the blobs and functions that only they named.

A run that is not over never expires. A blob is named by the records of runs: wherever in them its digest stands, it is
needed. One that was put less than `GRACE_S` ago stays, since what is to name it may not be stored yet.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from celeryflow.errors import IntegrityError
from celeryflow.store.keyspace import MAP_PARTS, RUN_PARTS
from celeryflow.store.scripts import Store
from celeryflow.values.blobs.place import Blobs

GRACE_S = 3600.0

_DIGEST = re.compile(rb"\xd9\x40([0-9a-f]{64})")
"""A digest in msgpack."""

_RECORDS = ("spec", "out", "parts", "expansions")
_BATCH = 500


@dataclass(frozen=True)
class Collected:
    """What was deleted, or would be: ids of runs, digests of functions, and of blobs with their sizes in bytes.

    `others` are deployments that keep values in the same place; where there are any, no blob is deleted.
    """

    runs: tuple[str, ...]
    code: tuple[str, ...]
    blobs: dict[str, int]
    others: tuple[str, ...] = ()


def collect(store: Store, blobs: Blobs, grace_s: float = GRACE_S, is_dry: bool = False) -> Collected:
    """Delete what nobody needs; say what that is, and leave it, if `is_dry`."""
    runs = [*_expired(store)] if is_dry else expire_runs(store)
    code = [digest for digest in _codes(store) if _drop_code(store, digest, grace_s, runs, is_dry)]
    before = blobs.now() - grace_s
    others = (users := blobs.users()) and users - {deployment(store)}
    found = {} if others else blobs.unused_since(before)
    for digest in _named(store, blobs, runs) if found else ():
        found.pop(digest, None)
    if not is_dry and not others:
        found = {digest: size for digest, size in found.items() if blobs.discard(digest, before)}
        blobs.sweep(before)
    return Collected(tuple(runs), tuple(code), found, tuple(sorted(others)))


def expire_runs(store: Store) -> list[str]:
    """Delete the runs whose time to be kept is over. One whose deletion was broken off is among them again."""
    gone = [run for run in _expired(store) if store.call("expire", run)]
    for run in gone:
        _delete(store, run)
    return gone


def delete_run(store: Store, run: str, age_s: float) -> bool:
    """Delete a run that ended so long ago; False if there is none, or it did not."""
    is_closed = store.call("expire", run, age_s)
    if is_closed:
        _delete(store, run)
    return bool(is_closed)


def _delete(store: Store, run: str) -> None:
    keys = [store.keys.run(run, part) for part in RUN_PARTS] + [*_map_keys(store, run)]
    for first in range(0, len(keys), _BATCH):
        store.client.unlink(*keys[first : first + _BATCH])
    store.client.zrem(store.keys.expiring, run)


def deployment(store: Store) -> str:
    """What tells this deployment from others that keep their large values in the same place."""
    key = f"{store.keys.prefix}:deployment"
    if not store.client.exists(key):
        store.client.setnx(key, f"{time.time_ns():x}")
    return str(store.client.get(key), "utf-8")


def _expired(store: Store) -> Iterator[str]:
    seconds, micros = store.client.time()
    for run in store.client.zrangebyscore(store.keys.expiring, "-inf", seconds + micros / 1e6):
        yield run.decode()


def _map_keys(store: Store, run: str) -> Iterator[str]:
    nodes = {field.partition(b":")[0].decode() for field in store.client.hkeys(store.keys.run(run, "map"))}
    return (store.keys.run(run, f"{part}:{node}") for node in sorted(nodes) for part in MAP_PARTS)


def _codes(store: Store) -> Iterator[str]:
    for key in store.client.scan_iter(store.keys.users("*"), count=1000):
        yield key.decode(errors="replace").rpartition(":")[2]


def _drop_code(store: Store, digest: str, grace_s: float, gone: Collection[str], is_dry: bool) -> bool:
    if not is_dry:
        return bool(store.call("drop_code", digest, grace_s))
    users = {run.decode(): float(since) for run, since in store.client.hgetall(store.keys.users(digest)).items()}
    return all(
        run in gone or (since < time.time() - grace_s and not store.client.exists(store.keys.run(run, "meta")))
        for run, since in users.items()
    )


def _named(store: Store, blobs: Blobs, without: Collection[str]) -> Iterator[str]:
    """Digests in the records of all runs but these, of functions as well."""
    for run in store.run_ids():
        if run not in without:
            for record in _records(store, run):
                yield from _digests(record)
            # A large graph is in a blob itself, and names others.
            for digest in _digests(store.meta(run).get("manifest", b"")):
                yield digest
                yield from _digests_in(blobs, digest)


def _records(store: Store, run: str) -> Iterator[bytes]:
    for part in _RECORDS:
        for _, record in store.client.hscan_iter(store.keys.run(run, part), count=50):
            yield record


def _digests(record: bytes) -> Iterable[str]:
    return (found.decode() for found in _DIGEST.findall(record))


def _digests_in(blobs: Blobs, digest: str) -> Iterable[str]:
    try:
        return _digests(bytes(blobs.get(digest)))
    except IntegrityError:  # it is gone, or is a function
        return ()
