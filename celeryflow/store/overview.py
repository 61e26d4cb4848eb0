"""What a deployment does at this moment: who holds what, what is ready, who was heard of when."""

from __future__ import annotations

from typing import NamedTuple

from celeryflow.config import LEASE_S
from celeryflow.store.keyspace import node_of
from celeryflow.store.scripts import Store, unpack

MOST = 1000
"""Entries of one list that are read."""


class Held(NamedTuple):
    """A claim: whose it is, and how many items it has."""

    drainer: str
    run: str
    queue: str
    items: int


class Ready(NamedTuple):
    """Items of a node that wait for somebody to claim them; `queue` is the store's own name."""

    queue: str
    run: str
    node: int
    items: int


def held(store: Store) -> list[Held]:
    """What drainers hold."""
    drainers = store.drainers()
    pipe = store.client.pipeline(transaction=False)
    for drainer in drainers:
        pipe.hmget(store.keys.claim(drainer), "run", "queue", "units")
    found = zip(drainers, pipe.execute(), strict=True)
    return [
        Held(drainer, run.decode(), (queue or b"").decode(), sum(count for _, _, count in unpack(units)))
        for drainer, (run, queue, units) in found
        if run is not None and units is not None
    ]


def ready(store: Store) -> list[Ready]:
    """What is ready, queue by queue; of a lane with more than 1,000 nodes those that come first."""
    lanes = [(queue, run, priority) for queue in store.queues() for run, priority in store.lanes(queue)]
    pipe = store.client.pipeline(transaction=False)
    for queue, run, priority in lanes:
        pipe.lrange(store.keys.lane(run, queue, priority), 0, MOST - 1)
    places = [
        (queue, run, node_of(entry))
        for (queue, run, _), entries in zip(lanes, pipe.execute(), strict=True)
        for entry in entries
    ]
    pipe = store.client.pipeline(transaction=False)
    for _, run, node in places:
        pipe.lrange(store.keys.run(run, f"ranges:{node}"), 0, MOST - 1)
    ranges = pipe.execute()
    return [
        Ready(*place, sum(int(entry.rpartition(b":")[2]) for entry in found) or 1)
        for place, found in zip(places, ranges, strict=True)
    ]


def silent_s(store: Store) -> dict[str, float]:
    """How long ago each worker was heard of, in seconds; those that have left are left out."""
    (seconds, micros), leases = (
        store.client.pipeline(transaction=False).time().zrange(store.keys.workers, 0, -1, withscores=True).execute()
    )
    now = seconds + micros / 1e6
    return {name.decode(): max(0.0, now + LEASE_S - until) for name, until in leases if until > 0}
