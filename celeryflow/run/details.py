"""What one sees of a step, or of an item of a map, on a click: values are read then, and only those that are small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

import numpy as np

from celeryflow.graph.model import Failure, Role
from celeryflow.graph.states import State
from celeryflow.run.cells import trail
from celeryflow.run.followed import Followed
from celeryflow.run.peek import LIMIT_BYTES, Patience, Peeked, chunk_size, item_bytes, size_of
from celeryflow.runtime.snapshot import expand as ex
from celeryflow.runtime.snapshot.attempts import OUTCOMES, STATES
from celeryflow.runtime.snapshot.record import FirstFailure
from celeryflow.values.manifest import origin
from celeryflow.view import details as view
from celeryflow.view import words
from celeryflow.view.preview import TooLarge, preview

PATIENCE_S = 2.0
"""Reading values, and what they say of themselves, gets so much time all together."""

ITEMS, ATTEMPTS, ARGUMENTS, FIRST, LOG_LINES = 20, 8, 12, 5, 2_000
"""How many are shown: failed items, attempts, arguments, results of a map; and lines that are looked through."""


def details(run: Followed, node: int, item: int | None = None) -> str:
    """What is known of a node of a run, as was last heard of it: state, attempts, times, values, error and log.

    Parameters
    ----------
    run : Followed
        The run.
    node : int
        Index of the node.
    item : int, optional
        Of a map, one of its items; else its counts, its first failure, and the failed items to choose from.

    Returns
    -------
    str
        HTML of at most some 20 kB, everything escaped. What cannot be read is said there, and never raised.
    """
    try:
        return view.joined(_Look(run, node, item).parts())
    except Exception as error:  # noqa: BLE001 - whatever it is, a click gets an answer
        return view.joined([view.unreadable(error)])


class _Look:
    """One look at a node or an item."""

    def __init__(self, run: Followed, node: int, item: int | None) -> None:
        self._run, self._source, self._outputs = run, run._source, run._outputs
        self._snapshot = run.seen if run.seen.last_seq else run.snapshot()
        self._record = self._snapshot.record_of(node)
        self._node, self._patience = self._record.node, Patience(PATIENCE_S)
        rows = ex.expand(self._snapshot, node)
        self._items = ex.items(self._snapshot, self._record, rows)
        is_item = self._node.is_map and item is not None and 0 <= item < len(self._items.state)
        self._item = item if is_item else None
        self._rows = rows if self._is_whole_map else rows.where(rows.item == (self._item or 0))

    @property
    def _is_whole_map(self) -> bool:
        return self._node.is_map and self._item is None

    @property
    def _status(self) -> State:
        return self._record.status if self._item is None else STATES[self._items.state[self._item]]

    def parts(self) -> Iterator[str]:
        """The pieces, the most important first."""
        failure = self._failure()
        yield self._head()
        yield self._why(failure)
        yield self._picks()
        yield self._timing()
        if (
            not self._is_whole_map
            and self._node.role not in (Role.GATHER, Role.PICK)
            and self._rows_or_failure(failure)
        ):
            yield self._read("inputs", self._inputs)
        yield self._read("output", self._output)
        yield self._read("last output", lambda: self._log(failure))
        yield self._attempts()
        yield view.traceback(failure.traceback if failure else "")

    def _read(self, what: str, work: Callable[[], str]) -> str:
        return self._patience.give(work, lambda error: view.section(what, view.unreadable(error)))

    def _rows_or_failure(self, failure: Failure | None) -> bool:
        """Whether it has begun at least."""
        return len(self._rows) > 0 or failure is not None or self._status is State.SUCCESS

    # --- what is known of it -----------------------------------------------------------------

    def _head(self) -> str:
        if self._item is None:
            return view.head(self._record, self._snapshot.last_at or 0.0)
        attempts = int(self._items.attempts[self._item])
        return view.item_head(self._record, view.Item(self._item, self._key(self._item)), self._status, attempts)

    def _failed_item(self) -> int | None:
        """The item to tell the failure of: 0 for a step, -1 if a map's length could not be read; None without one."""
        if self._item is not None:
            return self._item if self._status is State.FAILURE else None
        first = self._record.failure
        if first is None:
            return None
        return (-1 if first.index is None else first.index) if self._node.is_map else 0

    def _failure(self) -> Failure | None:
        item = self._failed_item()
        if item is None:
            return None
        try:
            return self._outputs.failure(self._node, item)
        except Exception as error:  # noqa: BLE001 - the record is gone, or not signed
            return Failure(kind="exception", error=type(error).__name__, message=str(error))

    def _why(self, found: Failure | None) -> str:
        item = self._failed_item()
        if found is None or item is None:
            return view.reason(self._record.error if self._item is None else str(self._items.reason[self._item]))
        index = item if self._node.is_map and item >= 0 else None
        first = FirstFailure(0, index, found.kind, found.error, found.attempt, False)
        calls = words.calls_after(self._snapshot, first, self._node.index)
        place = words.step_name(self._record) if index is None else f"item {index}"
        key = self._key(index) if self._item is None and index is not None else None
        return view.failure(place, found, trail(found.traceback), calls, key)

    def _picks(self) -> str:
        if not self._is_whole_map:
            return ""
        failed = np.flatnonzero(self._items.state == STATES.index(State.FAILURE)).tolist()
        return view.picks(self._node.index, [view.Item(i, self._key(i)) for i in failed[:ITEMS]], len(failed))

    def _key(self, item: int) -> str | None:
        """What an item was mapped from; None where that is large, or cannot be read."""
        return self._patience.give(lambda: self._read_key(item), lambda _: None)

    def _read_key(self, item: int) -> str | None:
        first = origin(self._snapshot.nodes, self._node.index)
        size = item_bytes(self._source.reader, first, self._record.length or 1)
        return self._outputs.key(self._node, item) if size < LIMIT_BYTES // ITEMS else None

    def _timing(self) -> str:
        record, rows = self._record, self._rows
        if self._item is None:
            wait, took = record.queue_wait_s, record.duration_s(self._snapshot.last_at or 0.0)
            return view.timing(record.started_at, wait, took, record.output_bytes, record.worker)
        if not len(rows):
            return ""
        started, ready = _known(rows.started_at[-1]), _known(ex.ready_at(self._snapshot, rows)[-1])
        wait = None if started is None or ready is None else max(0.0, started - ready)
        return view.timing(started, wait, _known(rows.duration_s[-1]), 0, str(rows.worker[-1]))

    def _attempts(self) -> str:
        rows = self._rows
        if self._is_whole_map:
            ends = Counter(_outcome(code) for code in rows.outcome.tolist())
            told = ", ".join(f"{words.number(n)} {kind.replace('_', ' ')}" for kind, n in ends.most_common() if kind)
            return view.reason(f"attempts: {words.number(len(rows))}, of which {told}") if len(ends) > 1 else ""
        found = [
            view.Attempt(
                int(rows.attempt[i]), _outcome(int(rows.outcome[i])), _known(rows.started_at[i]),
                _known(rows.duration_s[i]), str(rows.worker[i]), str(rows.reason[i]),
            )
            for i in range(max(0, len(rows) - ATTEMPTS), len(rows))
        ]  # fmt: skip
        return view.attempts(found, len(rows))

    def _log(self, failure: Failure | None) -> str:
        if failure is not None and failure.log_tail:
            return view.log([failure.log_tail])
        mine = (line for line in self._source.tail(LOG_LINES)[0] if line.node == self._node.index)
        found = [line.text for line in mine if self._item is None or line.index == self._item]
        return view.log(found[-view.LOG_LINES :])

    # --- values ------------------------------------------------------------------------------

    def _inputs(self) -> str:
        execution = Peeked(self._source, self._snapshot, self._node.name, self._item)
        found = [(name, preview(value)) for name, value in [*execution.arguments().items()][:ARGUMENTS]]
        return view.values("inputs", found)

    def _output(self) -> str:
        if self._is_whole_map:
            start, count = 0, min(FIRST, self._record.length or 0)
        elif self._status is State.SUCCESS:
            start, count = self._item or 0, 1
        else:
            return ""
        if not self._node.is_map:
            return view.section("output", preview(self._value()))
        found = [(i, value) for i in range(start, start + count) for value in self._values_of(i)]
        if not self._is_whole_map:
            return view.section("output", "".join(preview(value) for _, value in found))
        return view.values("first results", [(f"[{i}]", preview(value)) for i, value in found])

    def _value(self) -> Any:
        size = size_of(self._source.reader, self._snapshot, self._node.index)
        return TooLarge(size) if size > LIMIT_BYTES else self._outputs.value(self._node)

    def _values_of(self, item: int) -> list[Any]:
        """The value of an item of a map, if it has one."""
        size = chunk_size(self._source.reader, self._node.index, item)
        if size > LIMIT_BYTES:
            return [TooLarge(size)]
        return [value for _, value in self._outputs.arrived(self._node, item, 1)]


def _outcome(code: int) -> str:
    return "" if code == ex.NO_OUTCOME else OUTCOMES[code].value


def _known(value: Any) -> float | None:
    return None if isnan(value) else float(value)
