"""The values of an execution as they are looked at: small ones alone, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from celeryflow.engine.inputs import Inputs
from celeryflow.engine.read import Outcome, Reader
from celeryflow.graph.model import Role
from celeryflow.run.replay import Execution
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.values.manifest import Call
from celeryflow.values.vault import VALUE
from celeryflow.view.arguments import named
from celeryflow.view.preview import TooLarge

T = TypeVar("T")

LIMIT_BYTES = 64 * 2**20
"""What is larger when stored is not read: unpickling it may hold the kernel up for a second."""

BRIEFLY_S = 0.05
"""What each gets where the others have used the time up."""


class Patience:
    """Lets users' code, in what values say of themselves, run for so long, all together."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._until = seconds, time.monotonic() + seconds

    def give(self, work: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
        """What `work` gives, or `otherwise` of what it raises, or of a `TimeoutError` where there is no time left.

        It is then left to itself, in a thread that keeps no process alive.
        """
        found: list[T] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:  # noqa: BLE001 - a user's __repr__ or __setstate__ may raise anything
                found.append(otherwise(error))

        thread = Thread(target=run, name="celeryflow-details", daemon=True)
        thread.start()
        thread.join(max(BRIEFLY_S, self._until - time.monotonic()))
        return found[0] if found else otherwise(TimeoutError(f"it takes longer than {self.seconds:g} s"))


class Peeked(Execution):
    """An execution whose large inputs are not read."""

    def arguments(self) -> dict[str, Any]:
        """Arguments by the names of the parameters; by their places, where the function cannot be loaded here."""
        if self._call.template.size > LIMIT_BYTES:
            return {"all of them": TooLarge(self._call.template.size)}
        args, kwargs = self._arguments()
        try:
            function: Any = self._source.function(self._call.code)
        except Exception:  # noqa: BLE001 - a module that is missing here, or its import
            function = None
        return named(function, args, kwargs)

    def _inputs(self) -> Inputs:
        return SmallInputs(self._snapshot, self._record, self._reader, self._call)


class SmallInputs(Inputs):
    """Inputs with a `TooLarge` in the place of what is."""

    def __init__(self, snapshot: Snapshot, record: StepRecord, reader: Reader, call: Call) -> None:
        self._snapshot, self._record = snapshot, record
        super().__init__(reader, record.node.index, call)

    def value(self, hole: Any) -> Any:
        """As of Inputs."""
        size = size_of(self.reader, self._snapshot, hole.node)
        return TooLarge(size) if size > LIMIT_BYTES else super().value(hole)

    def _column(self, number: int, start: int, count: int) -> Any:
        is_map, length = self.call.mapped[number].is_map, self._record.length or 1
        found = chunk_size(self.reader, self.holes[number].node, start) if is_map else 0
        size = found or item_bytes(self.reader, self.node, length)
        return [Outcome(VALUE, TooLarge(size))] if size > LIMIT_BYTES else super()._column(number, start, count)


def size_of(reader: Reader, snapshot: Snapshot, node: int) -> int:
    """How many bytes reading the value of a node would load at most."""
    record = snapshot.record_of(node)
    if record.node.role is Role.GATHER:
        return sum(size_of(reader, snapshot, given.node) for given in record.node.inputs)
    if record.node.is_map:
        return record.output_bytes
    pointer = reader.pointer(node)
    return pointer.size if pointer else 0


def chunk_size(reader: Reader, node: int, item: int) -> int:
    """The same for an item of a map, which is read with its chunk."""
    (first,) = reader.chunks(node, item, 1)
    pointer = reader.pointer(node, first) if first >= 0 else None
    return pointer.size if pointer else 0


def item_bytes(reader: Reader, node: int, length: int) -> int:
    """About how large an item is of what a map, that is not over a map, goes through."""
    call = reader.call(node)
    found = reader.length(node) if call.is_planned else None
    stored = [*(mapped.items for mapped in call.mapped), *(found.items if found else ())]
    return max((pointer.size for pointer in stored if pointer), default=0) // max(1, length)
