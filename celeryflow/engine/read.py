"""Stored results of a run, verified: by item, by step, by whole map."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from celeryflow.errors import IntegrityError, StepFailedError
from celeryflow.graph.model import Failure, OnError, Record
from celeryflow.graph.refs import Hole
from celeryflow.store.claims import Item
from celeryflow.store.scripts import Store
from celeryflow.values import codec
from celeryflow.values.gathered import Gathered
from celeryflow.values.manifest import Call, Feed
from celeryflow.values.refusals import refusal
from celeryflow.values.vault import CALL, FAILURE, GATHERED, LENGTH, OMITTED, UPSTREAM, VALUE, Pointer, Vault


class Length(Record, frozen=True):
    """What planning a map found: how many items, the keys of a mapped dict, and where new items are."""

    count: int
    keys: Pointer | None = None
    items: tuple[Pointer | None, ...] = ()


class Arrival(Record, frozen=True):
    """Which inputs of a gather were there, by position, and why the others were not."""

    present: tuple[int, ...]
    missing: dict[int, str] = {}


class Expansion(Record, frozen=True):
    """What an item added to its run: nodes from `first` on, the last of which has its value.

    `rounds` is how often it has been expanded; `is_again` says that it goes on with that value.
    """

    first: int
    last: int
    rounds: int = 1
    is_again: bool = False


class Outcome(NamedTuple):
    """What became of one item: its value, its failure, or why there is neither."""

    kind: str
    value: Any = None


MISSING = Outcome("missing")


class Told(NamedTuple):
    """How an item ended, as the run's events tell it."""

    is_success: bool
    generation: int
    attempt: int


class Reader:
    """Reads one run.

    `known` holds records that need not be fetched. What was `told` of items by the first of their chunk: who puts
    records of earlier attempts in the places of later ones would have to roll those events back, too.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault,
        run: str,
        known: Mapping[Item, bytes] | None = None,
        told: Mapping[Item, Told] | None = None,
    ) -> None:
        self.store, self.vault, self.run = store, vault, run
        self.known, self.told = dict(known or {}), {} if told is None else told

    def that_was_told(self, told: Mapping[Item, Told]) -> Reader:
        """One like this for somebody who follows the run's events."""
        return Reader(self.store, self.vault, self.run, self.known, told)

    def call(self, node: int) -> Call:
        """The signed record of a node."""
        record = self.store.spec(self.run, node)
        if record is None:
            raise IntegrityError(f"run {self.run!r} has lost the record of step {node}.")
        return self.vault.open_as(CALL, Call, record, (self.run, node))

    def prefetch(self, items: Sequence[Item]) -> None:
        """Fetch records together that will be read one by one."""
        self.known |= {i: r for i, r in zip(items, self._records(items), strict=True) if r is not None}

    def outcome(self, node: int, start: int = 0) -> Outcome:
        """What became of a step, or of reading a map's length (`start` -1)."""
        (record,) = self._records([(node, start)])
        return MISSING if record is None else self._decode(record, node, start, start, 1)[0]

    def pointer(self, node: int, start: int = 0) -> Pointer | None:
        """Where the value of a step, or the chunk of a map from `start` on, is, unread; None where it has none."""
        (record,) = self._records([(node, start)])
        kind, body = self._open(record, node, start) if record else ("", b"")
        return msgspec.msgpack.decode(body, type=Pointer) if kind == VALUE else None

    def failure_behind(self, node: int) -> Failure:
        """Why there is no value of a step: its own failure, or that of what it needed."""
        while True:
            found, call = self.outcome(node), self.call(node)
            if found.kind == FAILURE:
                return found.value  # type: ignore[no-any-return]
            needed = [feed.node for feed in call.feeds]
            bad = [n for n, (state, _) in zip(needed, self.states(needed), strict=True) if state in ("f", "k")]
            if not bad:
                return Failure(kind="exception", error="StepFailedError", message=f"{call.step!r} has no value")
            node = bad[0]

    def length(self, node: int) -> Length | None:
        """What planning a map found."""
        found = self.outcome(node, -1)
        return found.value if found.kind == LENGTH else None

    def size(self, feed: Feed) -> int:
        """Number of items of a map, as signed.

        Raises
        ------
        IntegrityError
            If it should be known and is not.
        """
        call = self.call(feed.origin)
        if not call.is_planned:
            return int(call.length or 0)
        found = self.length(feed.origin)
        if found is None:
            raise IntegrityError(f"the length of {feed.name!r} is missing.")
        return found.count

    def outcomes(self, node: int, start: int, count: int, chunks: Sequence[int] | None = None) -> list[Outcome]:
        """What became of the items ``start`` to ``start + count`` of a map."""
        if chunks is None:
            chunks = self.chunks(node, start, count)
        records = dict(
            zip(wanted := sorted(set(chunks) - {-1}), self._records([(node, c) for c in wanted]), strict=True)
        )
        found: list[Outcome] = []
        while len(found) < count:
            first = start + len(found)
            chunk = chunks[len(found)]
            size = 1
            while len(found) + size < count and chunk >= 0 and chunks[len(found) + size] == chunk:
                size += 1
            record = records.get(chunk)
            found += [MISSING] if record is None else self._decode(record, node, chunk, first, size)
        return found

    def chunks(self, node: int, start: int, count: int) -> list[int]:
        """First item of the chunk of each item, -1 where nothing is stored."""
        marks = [-1] * count
        for known, first in self.known:
            if known == node:
                for item in range(max(first, start), min(first + self._span(node, first), start + count)):
                    marks[item - start] = first
        return marks if -1 not in marks else self.store.chunks(self.run, node, start, count)

    def _span(self, node: int, first: int) -> int:
        """How many items a known chunk holds."""
        kind, body = self._open(self.known[node, first], node, first)
        if kind != VALUE:
            return 1
        pointer = msgspec.msgpack.decode(body, type=Pointer)
        return pointer.count or codec.count_items(self.vault.fetch(pointer)) - pointer.first

    def whole(self, feed: Feed, length: int) -> Any:
        """The value of a whole map: a list, or a dict where a dict was mapped.

        Raises
        ------
        IntegrityError
            If an item is missing that the state said was there.
        """
        outcomes = self.outcomes(feed.node, 0, length)
        values = {i: self.pass_on(feed, outcome) for i, outcome in enumerate(outcomes) if not is_omitted(feed, outcome)}
        keys = self.keys(feed.origin)
        return [*values.values()] if keys is None else {keys[i]: value for i, value in values.items()}

    def pass_on(self, feed: Feed, outcome: Outcome) -> Any:
        """The value that an item passes on, its exception under ``on_error="return"``."""
        if outcome.kind == VALUE:
            return outcome.value
        if outcome.kind == FAILURE and feed.on_error is OnError.RETURN:
            return exception_of(outcome.value, feed.name)
        raise IntegrityError(f"an item of {feed.name!r} is {outcome.kind}, though all of them should be there.")

    def keys(self, node: int) -> list[Any] | None:
        """Keys of the mapped dict that a map goes through, if it was one."""
        if node < 0:
            return None
        call = self.call(node)
        found = self.length(node) if call.is_planned else None
        pointers = [found.keys] if found else [mapped.keys for mapped in call.mapped]
        return next((codec.unpack(self.vault.fetch(pointer)) for pointer in pointers if pointer), None)

    def mapped_values(self, node: int, limit_bytes: int, start: int = 0, count: int = sys.maxsize) -> list[Any] | None:
        """Items of the first mapped argument that is no map's and no larger than that; None where there is none."""
        call = self.call(node)
        found = self.length(node) if call.is_planned else None
        pointers = [mapped.items for mapped in call.mapped]
        if found:
            pointers = [first or second for first, second in zip(pointers, found.items, strict=True)]
        small = (pointer for pointer in pointers if pointer and pointer.size <= limit_bytes)
        return next((codec.unpack_items(self.vault.fetch(pointer), start, count) for pointer in small), None)

    def states(self, nodes: Sequence[int]) -> list[tuple[str, str]]:
        """State byte of each node, and of a cancelled one what it was before."""
        return self.store.states(self.run, nodes) if nodes else []

    def refusal(self, node: int) -> str:
        """Why a node was over its quota; empty if it was not."""
        return self.store.refusal(self.run, node)

    def kinds(self, node: int, count: int) -> list[tuple[str, bytes]]:
        """Kind and body of what is stored of each of the first items of a map; none where nothing is."""
        chunks = self.chunks(node, 0, count)
        stored = sorted(set(chunks) - {-1})
        records = zip(stored, self._records([(node, first) for first in stored]), strict=True)
        found = {first: self._open(r, node, first) for first, r in records if r is not None}
        return [found.get(first, ("", b"")) for first in chunks]

    def gathered_from(self, call: Call) -> tuple[list[Any] | None, list[tuple[Hole, int]]]:
        """Keys and places of what a gather collects: a hole each, or a map's hole with each of its items."""
        ((args, _, _),) = codec.unpack(self.vault.fetch(call.template))
        if isinstance(args[0], Hole):
            origin = call.feeds[0].origin
            planned = self.call(origin)
            length = self.length(origin) if planned.is_planned else Length(count=planned.length or 0)
            count = length.count if length else 0
            return self.keys(origin), [(args[0], item) for item in range(count)]
        keys = [*args[0]] if isinstance(args[0], dict) else None
        return keys, [(hole, -1) for hole in (args[0].values() if keys is not None else args[0])]

    def part(self, feed: Feed, key: Any) -> Any:
        """What is at a key of a node's value; of what a gather has, nothing else is read."""
        record = self._records([(feed.node, 0)])[0] if feed.origin < 0 else None
        if record is not None:
            kind, body = self._open(record, feed.node, 0)
            if kind == GATHERED:
                return self._gathered(feed.node, msgspec.msgpack.decode(body, type=Arrival), lambda k: k == key)[key]
        return self.value(feed)[key]

    def _gathered(
        self, node: int, arrival: Arrival, is_wanted: Callable[[Any], bool] = lambda key: True
    ) -> Gathered[Any]:
        call = self.call(node)
        feeds = {feed.node: feed for feed in call.feeds}
        keys, places = self.gathered_from(call)
        named = keys if keys is not None else range(len(places))
        wanted = [i for i in arrival.present if is_wanted(named[i])]
        values = {named[i]: self._at(feeds[places[i][0].node], *places[i]) for i in wanted}
        return Gathered(values, {named[i]: reason for i, reason in arrival.missing.items()})

    def _at(self, feed: Feed, hole: Hole, item: int) -> Any:
        if item >= 0:
            return self.pass_on(feed, self.outcomes(hole.node, item, 1)[0])
        value = self.value(feed)
        for key in hole.path:
            value = value[key]
        return value

    def value(self, feed: Feed) -> Any:
        """The whole value of a node."""
        if feed.origin >= 0:
            return self.whole(feed, self.size(feed))
        return self.pass_on(feed, self.outcome(feed.node))

    def _records(self, items: Sequence[Item]) -> list[bytes | None]:
        missing = [item for item in items if item not in self.known]
        fetched = dict(zip(missing, self.store.outputs(self.run, missing), strict=True)) if missing else {}
        return [self.known.get(item) or fetched.get(item) for item in items]

    def _open(self, record: bytes, node: int, first: int) -> tuple[str, bytes]:
        kind, body = self.vault.open(record, (self.run, node, first))
        told = self.told.get((node, first))
        if told is not None and _is_older(kind, body, told):
            raise refusal(
                f"the record of {self.run}/{node}/{first} is of an earlier attempt than the run's events tell of. "
                "It was put back, and was not read."
            )
        return kind, body

    def _decode(self, record: bytes, node: int, chunk: int, start: int, count: int) -> list[Outcome]:
        kind, body = self._open(record, node, chunk)
        if kind == VALUE:
            pointer = msgspec.msgpack.decode(body, type=Pointer)
            values = codec.unpack_items(self.vault.fetch(pointer), pointer.first + start - chunk, count)
            if len(values) < count or start - chunk + count > (pointer.count or sys.maxsize):
                raise IntegrityError(f"the results of step {node} from item {chunk} on are fewer than was said.")
            return [Outcome(VALUE, value) for value in values]
        if kind == FAILURE:
            return [Outcome(FAILURE, msgspec.msgpack.decode(body, type=Failure))] * count
        if kind == GATHERED:
            return [Outcome(VALUE, self._gathered(node, msgspec.msgpack.decode(body, type=Arrival)))]
        if kind == LENGTH:
            return [Outcome(LENGTH, msgspec.msgpack.decode(body, type=Length))]
        return [Outcome(kind, msgspec.msgpack.decode(body))] * count


def _is_older(kind: str, body: bytes, told: Told) -> bool:
    """Whether a record is of an earlier attempt. A success stays one; after a failure there may be a later success."""
    if kind != VALUE:
        return told.is_success and kind in (FAILURE, OMITTED, UPSTREAM)
    pointer = msgspec.msgpack.decode(body, type=Pointer)
    made = pointer.generation, pointer.attempt
    return made < told[1:] if told.is_success else made <= told[1:]


def is_omitted(feed: Feed, outcome: Outcome) -> bool:
    """Whether an item is left out of what its map passes on."""
    return outcome.kind == OMITTED or (outcome.kind == FAILURE and feed.on_error is OnError.SKIP)


def exception_of(failure: Failure, step: str, index: int | None = None) -> BaseException:
    """The original exception of a failure, or a `StepFailedError` that says as much."""
    if failure.exception and codec.opens_pickles():
        try:
            found = codec.loads(failure.exception)
        except Exception as error:  # noqa: BLE001 - whatever a user's __setstate__ or a missing module raises
            return step_failed(failure, step, index, f" (the original could not be unpickled here: {error!r})")
        if isinstance(found, BaseException):
            return found
    return step_failed(failure, step, index)


def step_failed(failure: Failure, step: str, index: int | None = None, note: str = "") -> StepFailedError:
    """The error that a result raises for a failure."""
    where = f"step {step!r}" if index is None else f"item {index} of step {step!r}"
    what = f"{failure.error}: {failure.message}" if failure.message else failure.error
    return StepFailedError(
        f"{where} failed ({failure.kind}): {what}{note}", step, index, failure.kind, failure.traceback
    )
