"""Items of a map as they arrive, for ``for`` and ``async for``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from celeryflow.graph.model import Event
from celeryflow.run.outputs import Outputs
from celeryflow.runtime.snapshot.record import StepRecord

T = TypeVar("T")

_END: Any = object()


class Arrivals(Generic[T]):
    """What an iterator gives, which may wait for each: ``async for`` lets others run meanwhile."""

    def __init__(self, found: Iterator[T]) -> None:
        self._found = found

    def __iter__(self) -> Iterator[T]:
        return self._found

    def __next__(self) -> T:
        return next(self._found)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        found = await asyncio.to_thread(next, self._found, _END)
        if found is _END:
            raise StopAsyncIteration
        return found


def arriving(
    record: StepRecord, events: Sequence[Event], outputs: Outputs, wait: Callable[[], None]
) -> Iterator[tuple[Any, Any]]:
    """Key, or index, and value of each item of a map that has one, until the map's end.

    `events` is what is known of the run, which `wait` adds to.
    """
    node, position, seen = record.node, 0, set[int]()
    keys: Sequence[Any] | None = None
    while True:
        is_last, news, position = record.status.is_terminal, events[position:], len(events)
        for event in news:
            if event.node == node.index and event.event in ("success", "failure", "reused") and event.start >= 0:
                fresh = [(i, v) for i, v in outputs.arrived(node, event.start, event.count) if i not in seen]
                if fresh and not seen:
                    keys = outputs.all_keys(node)
                seen.update(index for index, _ in fresh)
                yield from ((index if keys is None else keys[index], value) for index, value in fresh)
        if is_last:
            return
        wait()
