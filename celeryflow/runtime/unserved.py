"""Steps that wait for a worker which is not there: none serves their queue."""

from __future__ import annotations

from collections.abc import Mapping

from celeryflow.graph.model import Node
from celeryflow.store.scripts import Store
from celeryflow.values.manifest import queue_of

SHOWN = 3
HEARD_WITHIN_S = 2.0
"""A worker speaks ten times a second; one that was silent for so long is not counted on."""


def unserved(store: Store, run: str, nodes: Mapping[int, Node], pool: str) -> dict[str, list[str]]:
    """Queues that no live worker serves, with the first steps of the run that are ready in them.

    Parameters
    ----------
    nodes : mapping of int to Node
        What is known of the run's nodes: it may have grown since.
    pool : str
        What the run's queue names end with.
    """
    groups = [facts.get("queues", "") for facts in store.live_workers(HEARD_WITHIN_S).values()]
    lanes = sorted({(node.spec.queue, queue_of(node.spec), node.spec.priority) for node in nodes.values()})
    open_ = [lane for lane in lanes if not any(serves(group, lane[0] + pool) for group in groups)]
    found: dict[str, list[str]] = {}
    for queue, place, priority in open_:
        for node in store.ready_nodes(run, place + pool, priority):
            if node in nodes:
                found.setdefault(queue, []).append(nodes[node].name)
    return found


def misfits(store: Store, pool: str) -> str:
    """What to say of live workers of other versions than the runs of `pool` need; empty where there are none."""
    _, _, needed = pool.partition("=")
    found = {
        f"celeryflow {facts['version']} on Python {facts['python']} (worker {name})"
        for name, facts in store.live_workers(HEARD_WITHIN_S).items()
        if needed and versions_of(facts) != needed
    }
    if not found:
        return ""
    python, _, version = needed.partition("-")
    others = ", ".join(sorted(found)[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return f"This run needs celeryflow {version} on Python {python}, and there is {others}."


def versions_of(facts: Mapping[str, str]) -> str:
    """What the pool of a worker ends with, by its facts."""
    return f"{facts.get('python', '')}-{facts.get('version', '')}"


def serves(group: str, queue: str) -> bool:
    """Whether workers of a group serve a queue, as ``serves`` in Lua has it."""
    if not group.startswith("*"):
        return queue in group.split(",")
    pool = queue.partition("@")[2]
    return group == "*" or not pool or group.endswith(pool)
