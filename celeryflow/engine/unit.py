"""Run the items of a unit: inputs, context, output, retries; a Result each, nothing raised."""

from __future__ import annotations

import asyncio
import inspect
import random
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from celeryflow.engine import context
from celeryflow.engine.expand import Added, Blocked, Passed
from celeryflow.engine.failures import describe
from celeryflow.engine.gather import arrival
from celeryflow.engine.inputs import Inputs
from celeryflow.engine.read import Outcome, Reader
from celeryflow.engine.slots import NEVER
from celeryflow.engine.watched import Watched
from celeryflow.errors import (
    CeleryflowError,
    IntegrityError,
    RegisteredOnlyError,
    ServerError,
    StepMemoryError,
    StepTimeoutError,
)
from celeryflow.graph.model import OnError, Role
from celeryflow.store.claims import Claim, Result, Unit
from celeryflow.values.manifest import Call
from celeryflow.values.vault import CALL, FAILURE, GATHERED, LENGTH, UPSTREAM, VALUE, Pointer

if TYPE_CHECKING:
    from celeryflow.engine.execute import Executor

T = TypeVar("T")

CHUNK_S = 0.1
CHUNK_BYTES = 2**20
BRIEF_CHARS = 500

STORE_ERRORS = (CeleryflowError, OSError)
"""What a result that cannot be stored raises: its pickling, its size, a full disk."""

_BY_STATES = (Role.GATHER, Role.PICK)


class Stopped(BaseException):
    """The supervisor ends this attempt: its run is over, or its time."""


def retry_delay_s(call: Call, exceptions: int) -> float:
    """Wait before the next attempt after the `exceptions`-th failure, negative if there is none."""
    spec = call.spec
    if exceptions >= spec.retries:
        return -1.0
    return spec.retry_delay_s * spec.retry_backoff**exceptions * (1 + spec.retry_jitter * random.random())


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, on a loop of its own; beside a notebook's loop, in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, work).result()


class UnitWork:
    """One unit of a claim being run."""

    def __init__(self, executor: Executor, claim: Claim, unit: Unit, started: float) -> None:
        self.executor, self.claim, self.unit = executor, claim, unit
        self.vault = executor.link.vault
        self.attempt = unit.exceptions + unit.losses + 1
        self.is_cut = False
        self._chunk_started = started
        self._begun = time.monotonic()
        self._results: list[Result] = []
        self._values: list[Any] = []
        self._durations: list[float] = []
        self._size = 0

    async def run(self) -> list[Result]:
        """Results of the unit's items."""
        try:
            self._prepare()
        except ServerError:
            raise
        except Exception as error:  # noqa: BLE001
            return self.fail(error)
        if self.call.role in _BY_STATES:
            self._decide_by_states()
            return self._results
        execution = context.Current(
            self.claim.run, self.call.step, None, self.attempt, self.executor.capture.write_line
        )
        context.enter(execution)
        try:
            if self.unit.start < 0:
                self._plan()
            else:
                await self._run_items(execution)
        finally:
            context.leave()
        return self._results

    def _decide_by_states(self) -> None:
        """A gather or a pick: no code of the user's, and no value is read."""
        self._index, started = 0, time.perf_counter()
        binding = (self.claim.run, self.unit.node, 0)
        try:
            if self.call.role is Role.GATHER:
                record = self.vault.seal(GATHERED, binding, arrival(self.inputs.reader, self.call))
                self._results.append(self._result(0, "success", record, [time.perf_counter() - started]))
            else:
                self._results.append(self._picked(started))
        except ServerError:
            raise
        except Exception as error:  # noqa: BLE001
            self._results.append(self._failed(error, time.perf_counter() - started))

    def _picked(self, started: float) -> Result:
        template = self.inputs.chosen()
        lacking = self.inputs.lacking(template)
        if lacking is not None:
            return self._blocked(lacking)
        pointer = self.inputs.pointer(template)
        if pointer is not None:
            return self._passed(pointer, time.perf_counter() - started)
        return self._stored(0, [self.inputs.filled(template)], [time.perf_counter() - started])

    def _prepare(self) -> None:
        binding = (self.claim.run, self.unit.node)
        if self.unit.spec is None:
            raise IntegrityError(f"run {self.claim.run!r} has lost the record of step {self.unit.node}.")
        self.call = self.vault.open_as(CALL, Call, self.unit.spec, binding)
        if self.call.role not in _BY_STATES:
            self.function, self.retry_on = self.executor.function(self.call)
        store = self.executor.link.store
        reader = Reader(store, self.vault, self.claim.run, self.executor.known(self.unit))
        self.inputs = Inputs(reader, self.unit.node, self.call)
        self._rows = (
            self.inputs.items(self.unit.start, self.unit.count) if self.call.mapped and self.unit.start >= 0 else [()]
        )

    async def _run_items(self, execution: context.Current) -> None:
        for offset, row in enumerate(self._rows):
            self._index = self.unit.start + offset
            execution.index = self._index if self.call.mapped else None
            if isinstance(row, Outcome):
                self._flush()
                self._results.append(self._passed_over(row))
            else:
                await self._run_item(row)
            last = offset + 1 == len(self._rows)
            if not last and (time.monotonic() - self._chunk_started > CHUNK_S or self._size > CHUNK_BYTES):
                self.is_cut = True
                break
        self._flush()

    async def _run_item(self, row: tuple[Any, ...]) -> None:
        capture = self.executor.capture
        capture.begin(self.claim.run, self.unit.node, self._index, self.attempt)
        self._mark()
        started = time.perf_counter()
        try:
            is_body = self.call.role is Role.EXPAND
            value = self._expand(row) if is_body else await self._call_function(row)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a step is an exception of the step
            if isinstance(error, Stopped) or self.executor.slot.is_stopped:
                raise Stopped from None
            seconds = time.perf_counter() - started
            self._flush()
            self._results.append(self._failed(error, seconds))
        else:
            self._keep(value, time.perf_counter() - started)
        if self.unit.count == 1:
            capture.end()

    def _keep(self, value: Any, seconds: float) -> None:
        """Add a value to the chunk, or what stands for it."""
        if isinstance(value, (Added, Passed, Blocked)):
            self._flush()
            self._results.append(self._expanded(value, seconds))
            return
        self._values.append(value)
        self._durations.append(seconds)
        self._size += _rough_size(value)

    def _expanded(self, found: Added | Passed | Blocked, seconds: float) -> Result:
        if isinstance(found, Blocked):
            return self._blocked(found.node)
        if isinstance(found, Passed):
            return self._passed(found.pointer, seconds)
        facts = {"number": found.first, "length": found.size}
        return self._result(self._index, "expand", found.record, [seconds], **facts)

    def _passed(self, pointer: Pointer, seconds: float) -> Result:
        """The value of another node, unread, under this node's own signature."""
        mine = replace(pointer, attempt=self.attempt, generation=self.claim.generation)
        record = self.vault.seal(VALUE, (self.claim.run, self.unit.node, self._index), mine)
        return self._result(self._index, "success", record, [seconds], output_bytes=pointer.size)

    def _blocked(self, node: int) -> Result:
        """There is no value, since a node that it was to come from has none."""
        binding = (self.claim.run, self.unit.node, self._index)
        if self.call.mapped and self.call.on_error is not OnError.RAISE:
            failure = self.inputs.reader.failure_behind(node)
            facts = {"kind": failure.kind, "error": f"{failure.error}: {failure.message}"[:BRIEF_CHARS]}
            return self._result(self._index, "absorbed", self.vault.seal(FAILURE, binding, failure), None, **facts)
        return self._result(self._index, "upstream", self.vault.seal(UPSTREAM, binding, node), number=node)

    def _expand(self, row: tuple[Any, ...]) -> Any:
        """Trace the body, or go on after what it added has ended."""
        binding = (self.claim.run, self.unit.node, self._index)
        record = self.unit.inputs.get((self.unit.node, self._index))
        expander = self.executor.expander
        self.executor.is_in_step = True
        try:
            if record is not None:
                return expander.go_on(self.inputs.reader, self.call, binding, self.function, record)
            args, kwargs = self.inputs.arguments(row)
            return expander.begin(self.call, binding, lambda: self.function(*args, **kwargs))
        finally:
            self.executor.is_in_step = False

    async def _call_function(self, row: tuple[Any, ...]) -> Any:
        args, kwargs = self.inputs.arguments(row)
        try:
            self.executor.is_in_step = True
            self.executor.stop_if_asked()  # the signal may have come between two items
            value = self.function(*args, **kwargs)
            if not inspect.iscoroutine(value):
                return value
            return await Watched(value) if self.executor.is_on_loop else run_coroutine(value)
        finally:
            self.executor.is_in_step = False

    def _mark(self) -> None:
        """Say in shared memory what starts, and until when it may run."""
        timeout, memory = self.call.spec.timeout_s, self.call.spec.memory_limit_bytes
        if not timeout and not memory:
            self.executor.slot.start(self.unit.node, self._index, self.attempt)
            return
        deadline = time.monotonic() + timeout if timeout else NEVER
        delays = (self._delay_after(StepTimeoutError), self._delay_after(StepMemoryError))
        limits = (deadline, timeout or 0.0, delays[0], memory or 0, delays[1])
        self.executor.slot.start(self.unit.node, self._index, self.attempt, limits)

    def _delay_after(self, error: type[Exception]) -> float:
        return retry_delay_s(self.call, self.unit.exceptions) if issubclass(error, self.retry_on) else -1.0

    def _plan(self) -> None:
        self._index = -1
        self.executor.capture.begin(self.claim.run, self.unit.node, -1, self.attempt)
        self.executor.slot.start(self.unit.node, -1, self.attempt)
        started = time.perf_counter()
        try:
            length = self.inputs.plan()
        except Exception as error:  # noqa: BLE001
            self._results.append(self._failed(error, time.perf_counter() - started))
            return
        record = self.vault.seal(LENGTH, (self.claim.run, self.unit.node, -1), length)
        self._results.append(self._result(-1, "length", record, length=length.count))

    def _flush(self) -> None:
        """Store the values made since the last Result, as one chunk."""
        if not self._values:
            return
        values, durations = self._values, self._durations
        first = self._results[-1].start + self._results[-1].count if self._results else self.unit.start
        self._values, self._durations = [], []
        try:
            self._results.append(self._stored(first, values, durations))
        except STORE_ERRORS as error:
            self._store_one_by_one(first, values, durations, error)

    def _store_one_by_one(self, first: int, values: list[Any], durations: list[float], error: Exception) -> None:
        """A chunk could not be stored: find the item at fault."""
        for offset, (value, seconds) in enumerate(zip(values, durations, strict=True)):
            self._index = first + offset
            try:
                if len(values) == 1:
                    raise error
                self._results.append(self._stored(self._index, [value], [seconds]))
            except STORE_ERRORS as found:
                self._results.append(self._failed(found, seconds, can_retry=False))

    def _stored(self, first: int, values: list[Any], durations: list[float]) -> Result:
        what = f"the result of step {self.call.step!r}"
        pointer = self.vault.point(values, what, self.attempt, self.claim.generation)
        record = self.vault.seal(VALUE, (self.claim.run, self.unit.node, first), pointer)
        number = values[0] if self.call.role is Role.DECIDE else -1
        return self._result(first, "success", record, durations, output_bytes=pointer.size, number=number)

    def _passed_over(self, outcome: Outcome) -> Result:
        record = self.vault.seal(outcome.kind, (self.claim.run, self.unit.node, self._index), outcome.value)
        return self._result(self._index, outcome.kind, record, error=f"{outcome.value!r} has no such item")

    def fail(self, error: Exception) -> list[Result]:
        """One and the same failure for each item."""
        for index in range(self.unit.start, self.unit.start + self.unit.count):
            self._index = index
            self._results.append(self._failed(error, 0.0))
        return self._results

    def _failed(self, error: BaseException, seconds: float, can_retry: bool = True) -> Result:
        """A retry, or a failure for good. Where nothing could be prepared, there is no `call` that says otherwise."""
        call = getattr(self, "call", None)
        executor = self.executor
        failure = describe(error, self.attempt, executor.worker, executor.capture.tail(), executor.lack(error))
        facts = {"kind": failure.kind, "error": f"{failure.error}: {failure.message}"[:BRIEF_CHARS]}
        can_retry = can_retry and not isinstance(error, RegisteredOnlyError)
        if call and can_retry and isinstance(error, getattr(self, "retry_on", ())):
            delay = retry_delay_s(call, self.unit.exceptions)
            if delay >= 0:
                return self._result(self._index, "retry", b"", [seconds], delay_s=delay, **facts)
        record = self.vault.seal(FAILURE, (self.claim.run, self.unit.node, self._index), failure)
        is_absorbed = call is not None and call.on_error is not OnError.RAISE and self._index >= 0
        return self._result(self._index, "absorbed" if is_absorbed else "failure", record, [seconds], **facts)

    def _result(
        self, start: int, outcome: str, record: bytes, durations: list[float] | None = None, **more: Any
    ) -> Result:
        durations = durations or []
        return Result(
            node=self.unit.node,
            start=start,
            count=max(1, len(durations)),
            outcome=outcome,
            attempt=self.attempt,
            seconds=sum(durations) if outcome in ("success", "expand") and not self.executor.is_on_loop else -1.0,
            waited_s=max(0.0, self._begun - self._chunk_started),
            record=record,
            durations_s=tuple(durations),
            **more,
        )


def _rough_size(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else sys.getsizeof(value, 64)
