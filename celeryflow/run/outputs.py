"""What the steps of a run gave: values, failures, and the keys of items."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from celeryflow.engine.read import Outcome, Told, exception_of, is_omitted, step_failed
from celeryflow.errors import StepFailedError
from celeryflow.graph.checks import storable
from celeryflow.graph.model import Edge, Failure, Node, OnError
from celeryflow.graph.refs import Hole, fill
from celeryflow.runtime.sources import Source
from celeryflow.store.claims import Item
from celeryflow.values import codec
from celeryflow.values.gathered import Gathered
from celeryflow.values.manifest import Feed, feed_of
from celeryflow.values.vault import FAILURE, OMITTED, VALUE
from celeryflow.view.brief import Word, brief

KEY_CHARS = 80

KEYS_LIMIT_BYTES = 2**26
"""More than that is not read to say what the items of a map are."""


class Outputs:
    """Reads what a run has stored. `nodes`, lengths of maps and what was `told` are of who follows the run."""

    def __init__(self, source: Source, nodes: Mapping[int, Node], told: Mapping[Item, Told]) -> None:
        self._source, self._reader, self._nodes = source, source.reader.that_was_told(told), nodes

    def result(self) -> Any:
        """What the workflow's body returned."""
        ((template,),) = (codec.unpack(self._source.vault.fetch(self._source.result)),)
        return fill(template, self._fill)

    def _fill(self, hole: Any) -> Any:
        value = self.value(self._nodes[hole.node])
        for key in hole.path:
            value = value[key]
        return value

    def value(self, node: Node) -> Any:
        """The result of a step or whole map that succeeded."""
        return self._reader.value(self._feed(node))

    def gathered(self, node: Node, length: int) -> Gathered[Any]:
        """What there is of a map, and why the rest is missing."""
        feed = self._feed(node)
        keys = (self._reader.keys(feed.origin) if length else None) or range(length)
        values, missing = {}, {}
        for key, outcome in zip(keys, self._reader.outcomes(node.index, 0, length), strict=True):
            if _has_value(feed, outcome):
                values[key] = self._reader.pass_on(feed, outcome)
            else:
                missing[key] = _reason(outcome, is_omitted(feed, outcome))
        return Gathered(values, missing)

    def arrived(self, node: Node, start: int, count: int) -> list[tuple[int, Any]]:
        """Of these items of a map, those that have a value."""
        feed, outcomes = self._feed(node), self._reader.outcomes(node.index, start, count)
        return [(i, self._reader.pass_on(feed, o)) for i, o in enumerate(outcomes, start) if _has_value(feed, o)]

    def all_keys(self, node: Node) -> Sequence[Any] | None:
        """The keys of the dict that a map goes through, if it is one."""
        return self._reader.keys(self._feed(node).origin)

    def keys(self, node: Node, length: int) -> Sequence[str] | None:
        """Short text of what each item was mapped from, or its key.

        None where that is no value of its own (a map over several maps has the keys of the first), or where there is
        more of it than would be read for this.
        """
        if not node.is_map or not length:
            return None
        origin = self._feed(node).origin
        keys = self._reader.keys(origin)
        keys = self._reader.mapped_values(origin, KEYS_LIMIT_BYTES) if keys is None else keys
        if keys is not None:
            return [short(fill(key, self._named)) for key in keys]
        maps = (i.node for i in self._nodes[origin].inputs if i.edge is Edge.ITEMS)
        return next((found for source in maps if (found := self.keys(self._nodes[source], length))), None)

    def _named(self, place: Hole) -> Word:
        """A step's result in a list that was mapped, by the step's name."""
        return Word(self._nodes[place.node].name + "".join(f"[{key!r}]" for key in place.path))

    def key(self, node: Node, index: int) -> str | None:
        """The same of one item, without reading the others; how large all of them are plays no part."""
        origin = self._feed(node).origin
        keys = self._reader.keys(origin)
        found = self._reader.mapped_values(origin, sys.maxsize, index, 1) if keys is None else keys[index : index + 1]
        if found:
            return short(fill(found[0], self._named))
        maps = (i.node for i in self._nodes[origin].inputs if i.edge is Edge.ITEMS)
        return next((key for source in maps if (key := self.key(self._nodes[source], index))), None)

    def failure(self, node: Node, index: int) -> Failure:
        """Why a step or item failed; for a map, why its length could not be read where the item itself did not fail."""
        found = self._reader.outcome(node.index, index)
        if found.kind != FAILURE and node.is_map:
            found = self._reader.outcome(node.index, -1)
        return found.value if found.kind == FAILURE else Failure(kind="exception", error="unknown", message=found.kind)

    def step_error(self, node: Node, index: int | None = None) -> StepFailedError:
        """The error to raise for a step, or an item of a map, that failed."""
        failure = self.failure(node, index or 0)
        item = index if node.is_map and (index or 0) >= 0 else None
        return _caused(step_failed(failure, node.name, item), failure, node)

    def map_error(self, node: Node, length: int) -> StepFailedError:
        """The error to raise for a map that failed: how many items did, and the first few."""
        outcomes = self._reader.outcomes(node.index, 0, length) if length else []
        failed = [(i, outcome.value) for i, outcome in enumerate(outcomes) if outcome.kind == FAILURE]
        if not failed:
            return self.step_error(node, -1)
        few = ", ".join(f"item {i} ({f.error}: {f.message[:100]})" for i, f in failed[:3])
        index, first = failed[0]
        error = StepFailedError(
            f"{len(failed)} of {length} items of step {node.name!r} failed: {few}"
            f"{', …' if len(failed) > 3 else ''}. run.value({node.name!r}, partial=True) gives the others.",
            node.name, index, first.kind, first.traceback,
        )  # fmt: skip
        return _caused(error, first, node)

    def _feed(self, node: Node) -> Feed:
        return feed_of(self._nodes, node.index)


def short(value: Any) -> str:
    """A string, or what a value is in short, in at most 80 characters."""
    if not isinstance(value, str):
        return brief(value, KEY_CHARS)
    return storable(value if len(value) <= KEY_CHARS else f"{value[: KEY_CHARS - 1]}…")


def _caused(error: StepFailedError, failure: Failure, node: Node) -> StepFailedError:
    if failure.exception:
        error.__cause__ = exception_of(failure, node.name)
    return error


def _has_value(feed: Feed, outcome: Outcome) -> bool:
    return outcome.kind == VALUE or (outcome.kind == FAILURE and feed.on_error is OnError.RETURN)


def _reason(outcome: Outcome, is_left_out: bool) -> str:
    if outcome.kind == FAILURE:
        return f"{outcome.value.error}: {outcome.value.message}"[:500]
    return {OMITTED: f"left out: {outcome.value}", "upstream": f"its input failed: {outcome.value}"}.get(
        outcome.kind, "not there yet"
    )
