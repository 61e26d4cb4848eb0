"""Why a run cannot go on as things are: reasons of now, which go away by themselves once they are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from celeryflow.engine.link import Link
from celeryflow.errors import CeleryflowError
from celeryflow.runtime.unserved import serves
from celeryflow.store.overview import Ready
from celeryflow.values.manifest import Manifest, open_manifest

Facts = Mapping[str, str]
"""What is known of a worker."""


def reasons(link: Link, run: str, ready: Sequence[Ready], live: Mapping[str, Facts]) -> Iterator[str]:
    """Say what keeps a run from going on, each with what to do; nothing where it goes on.

    Parameters
    ----------
    ready : sequence of Ready
        What of the run waits for a worker.
    live : mapping of str to mapping
        Facts of the workers that are alive.
    """
    meta = link.store.meta(run)
    if "parked" in meta:
        yield f"its notebook has gone, and it waits until somebody resumes it: celeryflow resume {run}"
        return
    if not live:
        yield "no worker is alive. Start one: celeryflow worker"
        return
    try:
        manifest = open_manifest(meta["manifest"], run, link.vault)
    except (CeleryflowError, KeyError) as error:
        yield f"its record cannot be read with the keys that are here: {error}"
        return
    others = _other_versions(manifest, ready, live)
    yield from [others] if others else _unserved(manifest, ready, live)


def plain(queue: str) -> str:
    """The name that users gave a queue, of the store's own name for it."""
    return queue.partition("@")[0].partition("~")[0].partition("%")[0]


def serves_by_name(facts: Facts, queue: str) -> bool:
    """Whether a worker serves a queue of that name, of whatever pool."""
    return not {queue, "*"}.isdisjoint(plain(served) for served in facts.get("queues", "").split(","))


def is_served(facts: Facts, queue: str) -> bool:
    """Whether a worker serves a queue, by the store's own name."""
    _, at, pool = queue.rpartition("@")
    return serves(facts.get("queues", ""), plain(queue) + (f"@{pool}" if at else ""))


def _unserved(manifest: Manifest, ready: Sequence[Ready], live: Mapping[str, Facts]) -> Iterator[str]:
    names = {node.index: node.name for node in manifest.graph.nodes}
    waiting: dict[str, list[str]] = defaultdict(list)
    for one in ready:
        if not any(is_served(facts, one.queue) for facts in live.values()):
            waiting[plain(one.queue)].append(repr(names.get(one.node, f"step {one.node}")))
    for queue, steps in waiting.items():
        more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""
        yield (
            f"no worker serves queue {queue!r}, in which {', '.join(steps[:3])}{more} waits. "
            f"Start one: celeryflow worker -Q {queue}"
        )


def _other_versions(manifest: Manifest, ready: Sequence[Ready], live: Mapping[str, Facts]) -> str:
    """What to say if workers serve what is ready, but none with the versions of the run; else nothing."""
    serving = {name: f for name, f in live.items() if any(serves_by_name(f, plain(one.queue)) for one in ready)}
    own = manifest.version, manifest.python
    others = {name: (f.get("version"), f.get("python")) for name, f in serving.items()}
    if not others or own in others.values():
        return ""
    found = ", ".join(f"{name} has {version} on {python}" for name, (version, python) in sorted(others.items()))
    return (
        f"it was submitted by celeryflow {own[0]} on Python {own[1]}, and of the workers that serve it {found}. "
        "Start one with the same versions."
    )
