"""Results that a run begins with: staged beside its graph, under keys that expire unless `submit` publishes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis.exceptions import WatchError

from celeryflow.store.claims import Item
from celeryflow.store.generations import Rest, stage_rest
from celeryflow.store.scripts import STAGE_EXPIRY_S, STAGE_NODES, Store

PAGE = 100
SUBMIT_S = 30.0
"""A run that should resume another, and is not there after so many seconds, never came to that."""


@dataclass(frozen=True)
class TakenEvent:
    """An event that a run begins with; fields as of `Event`."""

    event: str
    node: int = -1
    start: int = 0
    count: int = 1
    output_bytes: int = 0
    origin: str = ""
    status: str = ""
    kind: str = ""
    cause: int = -1

    def fields(self, at: str) -> dict[str, Any]:
        """As the stream has it: what is not said is left out."""
        said = {name: value for name, value in vars(self).items() if value not in ("", -1)}
        return {"at": at, **said}


def stage_taken(
    store: Store, run: str, root: int, rest: Rest, records: Mapping[Item, bytes], events: Sequence[TakenEvent]
) -> tuple[list[str], dict[str, Any]]:
    """Write results, events and what is left to do of a run whose graph is staged.

    Parameters
    ----------
    store : Store
        Where to.
    run : str
        Id of the run.
    root : int
        The imaginary node that those depend on which wait for nothing.
    rest : Rest
        What is left to do.
    records : mapping
        Signed results by node and first item.
    events : sequence of TakenEvent
        That the run begins with, after its submit.

    Returns
    -------
    list of str, dict
        Parts of the run and facts for `Store.submit`.
    """
    stage_rest(store, run, rest)
    out, stream = store.keys.run(run, "out"), store.keys.run(run, "events")
    pipe = store.client.pipeline(transaction=False)
    pipe.hset(store.keys.run(run, "dependents"), str(root), rest.roots())
    left = iter(records.items())
    while page := {f"{node}:{start}": record for (node, start), record in islice(left, STAGE_NODES)}:
        pipe.hset(out, mapping=page)
        pipe.expire(out, STAGE_EXPIRY_S)
    pipe.execute()
    seconds, micros = store.client.time()
    at, told = f"{seconds}.{micros:06d}", [TakenEvent("submitted", status="pending"), *events]
    for first in range(0, len(told), STAGE_NODES):
        for seq, event in enumerate(told[first : first + STAGE_NODES], first + 1):
            pipe.xadd(stream, event.fields(at), id=f"{seq}-0")
        pipe.expire(stream, STAGE_EXPIRY_S)
        pipe.execute()
    return [*rest.parts, "out", "events"], {"left": len(rest.again), "seq": len(told)}


def latest_run(store: Store, workflow: str) -> str:
    """Id of the latest run of a workflow; empty if there is none."""
    for first in itertools.count(0, PAGE):
        runs = [run.decode() for run in store.client.zrevrange(store.keys.runs, first, first + PAGE - 1)]
        pipe = store.client.pipeline(transaction=False)
        for run in runs:
            pipe.hget(store.keys.run(run, "meta"), "workflow")
        found = (run for run, name in zip(runs, pipe.execute(), strict=True) if name == workflow.encode())
        if (latest := next(found, None)) is not None or not runs:
            return latest or ""
    return ""


def begin_resume(store: Store, run: str, by: str) -> str | None:
    """Write down that run `by` resumes a run.

    Returns
    -------
    str or None
        None if it does. Else nothing was written: empty if the run is not over, or the run that resumes it already.
    """
    key = store.keys.run(run, "meta")
    with store.client.pipeline() as pipe:
        try:
            pipe.watch(key)
            status, parked, other, since = pipe.hmget(key, "status", "parked", "resumed_as", "resumed_at")
            now = store.client.time()[0]
            if status in (b"pending", b"running") and not parked:
                return ""
            if other is not None and _is_under_way(store, other.decode(), now - float(since)):
                return str(other.decode())
            pipe.multi()
            pipe.hset(key, mapping={"resumed_as": by, "resumed_at": now})
            pipe.execute()
        except WatchError:
            return begin_resume(store, run, by)
    return None


def _is_under_way(store: Store, run: str, age_s: float) -> bool:
    status, parked = store.client.hmget(store.keys.run(run, "meta"), "status", "parked")
    if status is None:
        return age_s < SUBMIT_S
    return status in (b"pending", b"running") and not parked


def forget_resume(store: Store, run: str) -> None:
    """Nobody resumes the run after all."""
    store.client.hdel(store.keys.run(run, "meta"), "resumed_as", "resumed_at")
