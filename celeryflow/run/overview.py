"""A deployment at this moment: its workers, its queues, and the runs that cannot go on, with the reason."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from celeryflow.config import LEASE_S
from celeryflow.errors import CeleryflowError, ServerFullError
from celeryflow.masking import mask
from celeryflow.run.start import attach
from celeryflow.run.stuck import Facts, plain, reasons, serves_by_name
from celeryflow.runtime.session import Session
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.store import overview as look
from celeryflow.store.overview import Held, Ready
from celeryflow.store.scripts import Store

MOST_EVENTS = 50_000
"""Of a run with more of them what waits is not counted: that would take seconds."""


def overview(session: Session) -> dict[str, Any]:
    """What ``celeryflow status --json`` writes of a deployment.

    Raises
    ------
    ServerUnreachableError
        If the server does not answer.
    """
    store, settings = session.link.store, session.link.settings
    unfinished = [run for run, _ in store.unfinished_runs()]
    silent, held = look.silent_s(store), look.held(store)
    ready = [one for one in look.ready(store) if one.run in unfinished]
    facts = store.facts_of_workers([*silent])
    live = {name: facts[name] for name, seconds in silent.items() if seconds < LEASE_S and facts[name]}
    seen = {run: found for run in unfinished if (found := _snapshot(store, run)) is not None}
    stuck = {run: [*reasons(session.link, run, [r for r in ready if r.run == run], live)] for run in unfinished}
    return {
        "url": mask(settings.url),
        "prefix": settings.prefix,
        "at": time.time(),
        "trouble": _trouble(store),
        "refused": store.refused(),
        "workers": [_worker(name, facts[name], silent[name], held) for name in sorted(silent)],
        "queues": _queues(ready, held, seen, live),
        "runs": unfinished,
        "stuck": [{"run": run, "why": why} for run, why in stuck.items() if why],
    }


def _trouble(store: Store) -> str | None:
    try:
        store.check_room()
    except ServerFullError as error:
        return str(error)
    return None


def _snapshot(store: Store, run: str) -> Snapshot | None:
    """How a run stands; None of one that is too large for a look, or cannot be read."""
    if int(store.meta(run).get("seq", MOST_EVENTS + 1)) > MOST_EVENTS:
        return None
    try:
        return attach(run).snapshot()
    except CeleryflowError:  # its reason is among those why it is stuck
        return None


def _worker(name: str, facts: Facts, silent_s: float, held: Iterable[Held]) -> dict[str, Any]:
    """A worker; busy is how many of its processes hold a claim, by the names of their drainers."""
    host, _, pid = name.rpartition(":")
    busy = {h.drainer.rpartition("|")[2].partition("-")[0] for h in held if h.drainer.split("|")[1:2] == [name]}
    served = facts.get("queues", "")
    state = "silent" if silent_s >= LEASE_S else "working" if served else "stopping"
    return {
        "worker": name,
        "celery": facts.get("celery"),
        "host": facts.get("host", host),
        "pid": int(pid),
        "directory": facts.get("directory"),
        "state": state,
        "queues": [plain(queue) or "*" for queue in served.split(",")] if served else [],
        "concurrency": int(facts.get("slots", 0)),
        "busy": len(busy),
        "python": facts.get("python"),
        "celeryflow": facts.get("version"),
        "started_at": float(facts["started_at"]) if "started_at" in facts else None,
        "last_beat_s": round(silent_s, 3),
    }


def _queues(
    ready: list[Ready], held: list[Held], seen: Mapping[str, Snapshot], live: Mapping[str, Facts]
) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    waits: dict[str, list[float]] = defaultdict(list)
    now = time.time()
    for one in ready:
        counts[plain(one.queue)]["ready"] += one.items
        snapshot = seen.get(one.run)
        ready_at = snapshot.record_of(one.node).ready_at if snapshot and one.node in snapshot.nodes else None
        if ready_at is not None:
            waits[plain(one.queue)].append(max(0.0, now - ready_at))
    for claim in held:
        counts[plain(claim.queue)]["running"] += claim.items
    for snapshot in seen.values():
        for record in snapshot.steps:
            if record.ended_as is None:
                counts[record.node.spec.queue]["waiting"] += record.pending + record.retrying
    served = {plain(queue) for facts in live.values() for queue in facts.get("queues", "").split(",")} - {"", "*"}
    return [
        {
            "queue": queue,
            "ready": count["ready"],
            "running": count["running"],
            "waiting": max(0, count["waiting"] - count["ready"]),
            "oldest_wait_s": round(max(waits[queue]), 3) if waits[queue] else None,
            "workers": sum(serves_by_name(facts, queue) for facts in live.values()),
        }
        for queue, count in sorted({**{name: Counter() for name in served}, **counts}.items())
        if queue and not queue.startswith("!")
    ]
