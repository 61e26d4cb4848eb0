"""Run: one execution of a workflow, waited for, stopped, resumed, and its values."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from celeryflow.errors import IntegrityError, RunCancelledError, RunError, RunTimeoutError, UnservedQueueWarning
from celeryflow.graph import checks
from celeryflow.graph.states import State
from celeryflow.run.arrivals import Arrivals, arriving
from celeryflow.run.failures import is_late
from celeryflow.run.followed import Followed
from celeryflow.run.replay import Execution
from celeryflow.run.watch import Watch
from celeryflow.runtime.reuse.explain import Explanation
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.runtime.sources import Source
from celeryflow.view.live.shown import Beside, go_on, settle, show, waiting

R = TypeVar("R")

WAIT_S, PATIENCE_S, STOP_S = 0.5, 1.0, 2.0
REASON_CHARS = 1000


class Run(Followed, Generic[R]):
    """One execution of a workflow. Made by ``workflow.run``, ``workflow.submit``, ``cf.map`` and ``cf.attach``.

    Attributes
    ----------
    id : str
        Its id, by which ``cf.attach`` finds it again.
    """

    def __init__(self, run_id: str, source: Source) -> None:
        super().__init__(run_id, source)
        self._waited_since: float | None = None
        self._warned: set[str] = set()

    # --- waiting -------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> Run[R]:
        """Wait for the end, or for `timeout_s` seconds; the run itself, which may still be running then.

        Raises
        ------
        RunLostError
            If the server lost the run.
        RuntimeStartError
            If the embedded runtime cannot run it.
        """
        deadline = _deadline(timeout_s)
        while not self.is_over:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._await_events(min(WAIT_S, left))
        return self

    def _await_events(self, wait_s: float = WAIT_S) -> None:
        self._advance(wait_s)
        self._warn_of_unserved()

    def _warn_of_unserved(self) -> None:
        """Say once of a queue that nobody serves it; a worker that is just starting gets a second."""
        self._waited_since = self._waited_since or time.monotonic()
        if time.monotonic() - self._waited_since < PATIENCE_S or self._snapshot.status.is_terminal:
            return
        for queue, steps in self._source.unserved(self._snapshot.nodes).items():
            if queue not in self._warned:
                from celeryflow.view.words import unserved_notice

                self._warned.add(queue)
                notice = f"run {self.id!r}: {unserved_notice(queue, steps, self._source.misfits())}"
                warnings.warn(notice, UnservedQueueWarning, stacklevel=5)

    def wait_or_cancel(self, beside: Beside | None = None) -> Run[R]:
        """Wait for the end. An interrupt cancels the run, and waits until its steps have stopped; a second leaves."""
        with ExitStack() as view:
            try:
                # An interrupt may come as soon as the run is seen.
                view.enter_context(waiting(self.id, self._watch, beside))
                return self.wait()
            except KeyboardInterrupt:
                self.cancel("interrupted")
                deadline = time.monotonic() + STOP_S
                while self._source.is_at_work() and time.monotonic() < deadline:
                    time.sleep(0.05)
                raise

    def result(self, timeout_s: float | None = None) -> R:
        """Wait for the end and give the value that the workflow's body returned.

        Parameters
        ----------
        timeout_s : float, optional
            Seconds to wait at most; the run goes on after that.

        Raises
        ------
        StepFailedError
            If a step failed; its ``__cause__`` is the original exception where that unpickles.
        RunCancelledError, RunTimeoutError, RunLostError
            If there is no result for these reasons.
        """
        self.wait(timeout_s)
        status = self._snapshot.status
        if not status.is_terminal:
            raise RunTimeoutError(
                f"run {self.id!r} is still {status.value} after {timeout_s:g} s. It goes on; ask again."
            )
        if status is State.CANCELLED:
            raise RunCancelledError(f"run {self.id!r} was cancelled: {self._snapshot.reason or 'no reason given'}.")
        if status is State.FAILURE:
            self._raise_failure()
        with self._reading():
            return self._outputs.result()  # type: ignore[no-any-return]

    def _raise_failure(self) -> None:
        if is_late(self._snapshot):
            raise RunTimeoutError(f"run {self.id!r} failed: {self._snapshot.reason}.")
        first, index = self._snapshot.first_failure()
        if first is None:
            raise RunError(f"run {self.id!r} failed: {self._snapshot.reason or 'no reason is known'}.")
        raise self._outputs.step_error(self._snapshot.nodes[index], first.index)

    def __await__(self) -> Generator[Any, None, R]:
        show(self.id, self._watch)
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        try:
            return await asyncio.to_thread(self.result)
        finally:
            await asyncio.to_thread(settle, self.id)

    def cancel(self, reason: str = "") -> None:
        """End the run; steps that are running are stopped. A run that is over stays as it is."""
        self._source.cancel(checks.storable(str(reason)[:REASON_CHARS]) if reason else "by the user")

    def resume(self) -> Run[R]:
        """Run what did not succeed once more, with the stored code, as a new generation; the run itself.

        Finished steps and items are kept. A run that succeeded stays as it is.

        Raises
        ------
        ResumeConflictError
            If it is still running, or somebody else has resumed it at this moment.
        """
        if self.snapshot().status is not State.SUCCESS:
            try:
                self._source.resume(self._snapshot)
            finally:
                self.news(WAIT_S)
            go_on(self.id)
        return self

    def explain(self, step: str) -> Explanation:
        """What made a step run: what was not as in the run whose results this one took over.

        Parameters
        ----------
        step : str
            Its name.

        Returns
        -------
        str
            A few lines; `reasons` has each of them as ``(what, old, new)``.

        Raises
        ------
        UnknownStepError
            If there is no such step.
        """
        return self._source.explain(self.snapshot(), step)

    # --- showing -------------------------------------------------------------------------

    def _watch(self) -> Watch:
        return Watch(self.id, self._source)

    def _ipython_display_(self, beside: Beside | None = None) -> None:
        if not show(self.id, self._watch, beside):
            raise NotImplementedError  # IPython then takes the text, or the static page

    def apart(self) -> Run[R]:
        """The same run, with a Snapshot of its own: for another thread."""
        return Run(self.id, self._source)

    # --- values --------------------------------------------------------------------------

    def value(self, step: str, partial: bool = False) -> Any:
        """The result of one step.

        Parameters
        ----------
        step : str
            Its name.
        partial : bool
            For a map: what there is, as a `Gathered`, also while it runs or where items failed.

        Raises
        ------
        StepFailedError
            If it failed; for a map, saying how many items did and the first few.
        RunError
            If it has not ended, or was skipped or cancelled.
        UnknownStepError
            If there is no such step.
        """
        record = self.snapshot().record(step)
        node = record.node
        if partial and node.is_map and (record.length is not None or not record.status.is_terminal):
            with self._reading():
                return self._outputs.gathered(node, self._length(node))
        if record.status is State.FAILURE:
            raise self._outputs.map_error(node, self._length(node)) if node.is_map else self._outputs.step_error(node)
        if record.status is not State.SUCCESS:
            hint = (
                ""
                if record.status.is_terminal
                else " Wait for it with run.wait(), or take what there is with partial=True."
            )
            raise RunError(f"step {step!r} of run {self.id!r} is {record.status.value} and has no value.{hint}")
        with self._reading():
            return self._outputs.value(node)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is missing because the whole run is gone is said to be that."""
        try:
            yield
        except IntegrityError:
            self._source.follow(self._snapshot.last_seq, 0.0)
            raise

    def as_completed(self, step: str) -> Arrivals[tuple[Any, Any]]:
        """Items of a map as they arrive, for ``for`` and for ``async for``.

        Parameters
        ----------
        step : str
            Name of a map, or of a step, which has one value.

        Returns
        -------
        iterator of (key, value)
            The index of the item, its key where a dict was mapped, or None for a step. First what is there, then each
            as it comes; after the last one the loop ends.

        Raises
        ------
        UnknownStepError
            At once, if there is no such step.
        StepFailedError, RunCancelledError, RunTimeoutError, RunError
            After the last value, if the step failed, or others never came. Items that ``on_error="skip"`` leaves out do
            not appear; with ``"return"`` the exception is the value.
        """
        return Arrivals(self._arriving(self.snapshot().record(step)))

    def _arriving(self, record: StepRecord) -> Iterator[tuple[Any, Any]]:
        name, is_map, snapshot = record.node.name, record.node.is_map, self._snapshot

        def wait() -> None:
            self._await_events()
            if self._snapshot is not snapshot:
                raise RunError(f"the server came back with an older state of run {self.id!r}. Ask for its items again.")

        if is_map:
            yield from arriving(record, self._events, self._outputs, wait)
        while not record.status.is_terminal:
            wait()
        if record.status is State.CANCELLED and self._snapshot.status.is_terminal:
            self.result()  # raises why the run ended before it
        if not is_map or record.status is not State.SUCCESS:
            yield None, self.value(name)

    def inputs(self, step: str, index: int | None = None) -> dict[str, Any]:
        """The arguments of one execution, as they were, by the names of the function's parameters.

        Parameters
        ----------
        step : str
            Name of the step.
        index : int, optional
            Item of a map, from 0; by default the first that failed.

        Raises
        ------
        UnknownStepError, UnknownError, ArgumentError
            If there is no such execution, or the index is missing.
        RunError
            If it has not got its inputs: they failed, or are not there yet.
        """
        return Execution(self._source, self.snapshot(), step, index, self._ends).inputs()

    def replay(self, step: str, index: int | None = None, function: Callable[..., Any] | None = None) -> Any:
        """Execute a step, or an item of a map, once more: here, with its real inputs.

        An exception is the function's own, so that a debugger reaches it. What is printed appears here,
        ``cf.current()`` is as it was, and the run does not notice: nothing is stored, and no limit is kept.

        Parameters
        ----------
        step, index
            As of ``inputs``.
        function : callable, optional
            By default the stored code; or a mended one, to be tried on these inputs.

        Returns
        -------
        What the function returns.

        Raises
        ------
        UnknownStepError, UnknownError, ArgumentError, RunError
            As of ``inputs``.
        """
        return Execution(self._source, self.snapshot(), step, index, self._ends).replay(function)


def _deadline(timeout_s: float | None) -> float:
    if timeout_s is None:
        return float("inf")
    checks.check_timeout(timeout_s, "timeout_s")
    return time.monotonic() + timeout_s
