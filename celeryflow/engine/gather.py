"""What a gather goes on with: which of its inputs are there, and why the others are not. No value is read for it."""

from __future__ import annotations

import msgspec

from celeryflow.engine.read import Arrival, Reader
from celeryflow.errors import TooFewResultsError
from celeryflow.graph.model import Failure, OnError
from celeryflow.graph.refs import Hole
from celeryflow.values import codec
from celeryflow.values.manifest import Call, Feed
from celeryflow.values.vault import FAILURE, OMITTED, UPSTREAM, VALUE

LATE, NEVER = "late: still running", "never started"
SHOWN = 10


def arrival(reader: Reader, call: Call) -> Arrival:
    """Which inputs of a gather are there now.

    Raises
    ------
    TooFewResultsError
        If they are fewer than its `min_results`.
    """
    keys, places = reader.gathered_from(call)
    is_of_items = bool(places) and places[0][1] >= 0
    reasons = _of_items(reader, call.feeds[0], len(places)) if is_of_items else _of_steps(reader, call, places)
    missing = {position: reason for position, reason in enumerate(reasons) if reason}
    ((_, options, _),) = codec.unpack(reader.vault.fetch(call.template))
    present = tuple(position for position in range(len(places)) if position not in missing)
    if len(present) < options["min_results"]:
        raise TooFewResultsError(_too_few(call, len(present), options["min_results"], keys, missing))
    return Arrival(present=present, missing=missing)


def _of_steps(reader: Reader, call: Call, places: list[tuple[Hole, int]]) -> list[str]:
    nodes = sorted({hole.node for hole, _ in places})
    states = dict(zip(nodes, reader.states(nodes), strict=True))
    return [_reason(reader, hole.node, *states[hole.node]) for hole, _ in places]


def _reason(reader: Reader, node: int, state: str, was: str) -> str:
    if state == "s":
        return ""
    if state == "f":
        failure = reader.failure_behind(node)
        return f"failed: {failure.error}: {failure.message}"[:500]
    if state == "k":
        return "skipped"
    return reader.refusal(node) or (LATE if (was or state) in ("x", "t") else NEVER)


def _of_items(reader: Reader, feed: Feed, count: int) -> list[str]:
    stored = reader.kinds(feed.node, count)
    if not any(kind for kind, _ in stored) and (refusal := reader.refusal(feed.node)):
        return [refusal] * count
    waiting = {item for items in reader.store.waiting_ranges(reader.run, feed.node) for item in items}
    return [
        _item_reason(feed, kind, body) if kind else NEVER if item in waiting else LATE
        for item, (kind, body) in enumerate(stored)
    ]


def _item_reason(feed: Feed, kind: str, body: bytes) -> str:
    if kind == VALUE:
        return ""
    if kind == FAILURE:
        failure = msgspec.msgpack.decode(body, type=Failure)
        return "" if feed.on_error is OnError.RETURN else f"failed: {failure.error}: {failure.message}"[:500]
    return {OMITTED: "left out", UPSTREAM: "skipped: its input failed"}.get(kind, LATE)


def _too_few(call: Call, found: int, needed: int, keys: list[object] | None, missing: dict[int, str]) -> str:
    named = [f"{keys[i] if keys else i}: {reason}" for i, reason in list(missing.items())[:SHOWN]]
    more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        f"{call.step!r} got {found} results, fewer than its min_results of {needed}. Missing: {'; '.join(named)}{more}."
    )
