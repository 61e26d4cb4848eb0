"""What failed in a run: its items, and what was running when it was cancelled or its time was over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celeryflow.graph.model import Event, Failure
from celeryflow.run.outputs import Outputs
from celeryflow.runtime.snapshot.fold import Snapshot

Failed = tuple[int, int | None, Failure]
"""Index of the node, of the item (None for a plain step), and why."""


def is_late(snapshot: Snapshot) -> bool:
    """Whether the run ended because its time was over."""
    return snapshot.end_kind == "deadline"


def failures(events: Iterable[Event], snapshot: Snapshot, outputs: Outputs) -> Iterator[Failed]:
    """Each failed step and item, in the order of the workflow; then each that was stopped with the run."""
    for event in sorted(_unmended(events, snapshot), key=lambda event: (event.node, event.start)):
        why = outputs.failure(snapshot.nodes[event.node], event.start)
        yield event.node, _item(snapshot, event.node, event.start), why
    for node, start, claim in snapshot.stopped:
        why = Failure(
            kind=snapshot.end_kind,
            error="RunTimeoutError" if is_late(snapshot) else "RunCancelledError",
            message=snapshot.reason,
            attempt=claim.attempt,
            worker=claim.worker,
        )
        for item in range(start, start + claim.size):
            yield node, _item(snapshot, node, item), why


def _unmended(events: Iterable[Event], snapshot: Snapshot) -> Iterator[Event]:
    """Failures of the latest generation that ran the step: a resume forgets the earlier ones."""
    generation = 1
    for event in events:
        if event.event == "started":
            generation = event.generation
        elif event.event == "failure" and generation >= snapshot.record_of(event.node).since_generation:
            yield event


def _item(snapshot: Snapshot, node: int, item: int) -> int | None:
    return item if snapshot.nodes[node].is_map and item >= 0 else None
