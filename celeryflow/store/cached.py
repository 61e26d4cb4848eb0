"""Which runs had a step with some key: where to look for results of steps with ``cache=True``. A hint, no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from celeryflow.store.scripts import Store

NEWEST = 4
"""Runs that are remembered for a key. Each new one takes over what it finds: the newest has nearly all of it."""


class Hint(NamedTuple):
    """A run, and its nodes that had the key."""

    run: str
    nodes: tuple[int, ...]


def note(store: Store, keys: Mapping[bytes, Sequence[int]], run: str, retention_s: float) -> None:
    """Remember a run, and its nodes by key, as long as a run is kept."""
    if not keys:
        return
    seconds, micros = store.client.time()
    pipe = store.client.pipeline(transaction=False)
    for key, nodes in keys.items():
        name = store.keys.cached(key)
        pipe.zadd(name, {"|".join([run, *map(str, nodes)]): seconds + micros / 1e6})
        pipe.zremrangebyrank(name, 0, -1 - NEWEST)
        pipe.expire(name, max(1, int(retention_s)))
    pipe.execute()


def look_up(store: Store, keys: Sequence[bytes]) -> dict[bytes, list[Hint]]:
    """The runs that are remembered for these keys, the newest first."""
    pipe = store.client.pipeline(transaction=False)
    for key in keys:
        pipe.zrevrange(store.keys.cached(key), 0, -1)
    return {key: [*map(_hint, found)] for key, found in zip(keys, pipe.execute(), strict=True)}


def _hint(member: bytes) -> Hint:
    run, *nodes = member.decode(errors="replace").split("|")
    return Hint(run, tuple(int(node) for node in nodes if node.isdigit()))
