"""One execution of a step: what it got, and the same again in this process."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any

from celeryflow.engine import context
from celeryflow.engine.inputs import Inputs
from celeryflow.engine.read import Outcome, Reader, Told
from celeryflow.engine.unit import run_coroutine
from celeryflow.errors import ArgumentError, RunError, UnknownError
from celeryflow.graph.model import Edge, Role
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.sources import Source
from celeryflow.store.claims import Item
from celeryflow.view.arguments import named


class Execution:
    """An execution of a step, or of an item of a map.

    Parameters
    ----------
    source : Source
        The run.
    snapshot : Snapshot
        How it stands.
    step : str
        Name of the step.
    index : int or None
        Item of a map; None for the first that failed.
    ends : mapping of Item to Told
        How its items ended, as of `Reader`.

    Raises
    ------
    UnknownStepError, UnknownError, ArgumentError
        If there is no such execution, or it has to be said which.
    RunError
        If it is none of a function of the user's.
    """

    def __init__(
        self, source: Source, snapshot: Snapshot, step: str, index: Any = None, ends: Mapping[Item, Told] | None = None
    ) -> None:
        self._source, self._snapshot = source, snapshot
        self._record = snapshot.record(step)
        self._node = self._record.node
        self._index = _item(self._record, index)
        self._name = f"item {self._index} of step {step!r}" if self._node.is_map else f"step {step!r}"
        if self._node.role in (Role.GATHER, Role.PICK):
            raise RunError(f"step {step!r} calls no function: it passes on what others gave. See run.value({step!r}).")
        reader = source.reader
        # One that remembers nothing of before a resume.
        self._reader = Reader(reader.store, reader.vault, reader.run, told=ends)
        self._call = self._reader.call(self._node.index)

    def inputs(self) -> dict[str, Any]:
        """Arguments by the names of the parameters."""
        args, kwargs = self._arguments()
        return named(self._source.function(self._call.code), args, kwargs)

    def replay(self, function: Callable[..., Any] | None = None) -> Any:
        """What the stored function, or another one, gives for these arguments, here."""
        if self._node.role is Role.EXPAND:
            inside = [n.name for n in self._snapshot.nodes.values() if n.parent == self._node.index]
            raise RunError(
                f"{self._name} is a workflow or loop in a workflow. Replay one of the steps that it added: "
                f"{', '.join(inside[:20]) or 'there is none'}."
            )
        args, kwargs = self._arguments()
        function = function or self._source.function(self._call.code)
        index = self._index if self._node.is_map else None
        attempt = self._snapshot.attempts.latest(self._node.index, self._index)
        context.enter(context.Current(self._reader.run, self._node.name, index, attempt, _show))
        try:
            value = function(*args, **kwargs)
            return run_coroutine(value) if inspect.iscoroutine(value) else value
        finally:
            context.leave()

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        for needed in self._node.inputs:
            other = self._snapshot.record_of(needed.node)
            is_there = other.status is State.SUCCESS if needed.edge is Edge.WHOLE else True
            if needed.edge is Edge.ITEMS:
                is_there = self._reader.chunks(needed.node, self._index, 1) != [-1]
            if not is_there:
                raise self._without_inputs(f"step {other.node.name!r} is {other.status.value}")
        inputs, row = self._inputs(), ()
        if self._node.is_map:
            (found,) = inputs.items(self._index, 1)
            if isinstance(found, Outcome):
                raise self._without_inputs(f"its input item of {found.value!r} failed, or was left out")
            row = found
        return inputs.arguments(row)

    def _inputs(self) -> Inputs:
        return Inputs(self._reader, self._node.index, self._call)

    def _without_inputs(self, why: str) -> RunError:
        return RunError(f"{self._name} of run {self._reader.run!r} has not got its inputs: {why}.")


def _item(record: StepRecord, index: Any) -> int:
    name = record.node.name
    if index is None or str(index) == "<NA>":  # as the frames have it where there is none
        return _first_failed(record) if record.node.is_map else 0
    try:
        number = operator.index(index)
    except TypeError:
        raise ArgumentError(f"the index of an item of step {name!r} is a whole number, not {index!r:.100}.") from None
    if not record.node.is_map:
        raise UnknownError(f"step {name!r} is no map and has no item {number}. Leave the index out.")
    if record.length is None or not 0 <= number < record.length:
        there = "has no items yet" if record.length is None else f"has {record.length} items, counted from 0"
        raise UnknownError(f"step {name!r} has no item {number}: it {there}.")
    return number


def _first_failed(record: StepRecord) -> int:
    if record.failure is None or record.failure.index is None:
        raise ArgumentError(
            f"step {record.node.name!r} is a map, and no item of it failed. Say which one you mean: its index, from 0."
        )
    return record.failure.index


def _show(stream: str, text: str) -> None:
    sys.stdout.write(f"{text}\n")
