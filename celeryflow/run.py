"""Run: what came of one execution of a workflow, while it goes on and after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from celeryflow.config import INLINE_LIMIT_BYTES
from celeryflow.engine.read import Outcome, exception_of, is_omitted, step_failed
from celeryflow.errors import (
    RunCancelledError,
    RunError,
    RunTimeoutError,
    StepFailedError,
    UnknownRunError,
    VersionMismatchError,
    did_you_mean,
)
from celeryflow.graph import checks
from celeryflow.graph.model import Event, Failure, Graph, Node, OnError
from celeryflow.graph.refs import fill
from celeryflow.graph.states import State
from celeryflow.graph.trace import Traced
from celeryflow.runtime import session as sessions
from celeryflow.runtime.inline import Inline
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.sources import InlineSource, Source, StoredSource
from celeryflow.values import codec
from celeryflow.values.gathered import Gathered
from celeryflow.values.manifest import feed_of, open_manifest, seal_run
from celeryflow.values.vault import FAILURE, OMITTED, PYTHON, VALUE
from celeryflow.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from celeryflow.view.svg import Picture

R = TypeVar("R")

WAIT_S = 0.5
KEY_CHARS = 80


class Run(Generic[R]):
    """One execution of a workflow. Made by ``workflow.run``, ``workflow.submit``, ``cf.map`` and ``cf.attach``.

    Attributes
    ----------
    id : str
        Its id, by which ``cf.attach`` finds it again.
    """

    def __init__(self, run_id: str, source: Source) -> None:
        self.id = run_id
        self._source = source
        self._events: list[Event] = []
        self._snapshot = Snapshot(source.graph, run_id)

    # --- state ---------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """What it runs."""
        return self._source.graph

    @property
    def status(self) -> str:
        """``pending``, ``running``, ``success``, ``failure`` or ``cancelled``, now."""
        return self.snapshot().status.value

    @property
    def stalled(self) -> bool:
        """Whether it is not over and no worker is there to carry it on."""
        return not self.snapshot().status.is_terminal and not self._source.has_workers()

    def snapshot(self) -> Snapshot:
        """All that is known of the run now; frames and pictures are made of it."""
        while self._advance(0.0):
            pass
        return self._snapshot

    def _advance(self, wait_s: float) -> bool:
        found = [] if self._snapshot.status.is_terminal else self._source.follow(self._snapshot.last_seq, wait_s)
        self._events += found
        self._snapshot.apply_all(found)
        return bool(found)

    def __repr__(self) -> str:
        from celeryflow.view.text import text

        return text(self.snapshot())

    def _repr_html_(self) -> str:
        from celeryflow.view.html import html

        return html(self.snapshot())

    def draw(self) -> Picture:
        """Picture of the run now; ``.save(path)`` writes it."""
        from celeryflow.view.svg import draw

        return draw(self.graph, self.snapshot())

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
        while not self._snapshot.status.is_terminal:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._advance(min(WAIT_S, left))
        return self

    def wait_or_cancel(self) -> Run[R]:
        """Wait for the end; an interrupt cancels the run."""
        try:
            return self.wait()
        except KeyboardInterrupt:
            self.cancel("interrupted")
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
        ((template,),) = (codec.unpack(self._source.vault.fetch(self._source.result)),)
        return fill(template, self._fill)  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.to_thread(self.result).__await__()

    def cancel(self, reason: str = "") -> None:
        """End the run; steps that are running are stopped. A run that is over stays as it is."""
        self._source.cancel(reason or "by the user")

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
        if partial and node.is_map:
            return self._gather(node)
        if record.status is State.FAILURE:
            raise self._map_failed(node) if node.is_map else self._failed(node, 0)
        if record.status is not State.SUCCESS:
            hint = (
                ""
                if record.status.is_terminal
                else " Wait for it with run.wait(), or take what there is with partial=True."
            )
            raise RunError(f"step {step!r} of run {self.id!r} is {record.status.value} and has no value.{hint}")
        return self._value(node)

    def _value(self, node: Node) -> Any:
        reader, feed = self._source.reader, feed_of(self.graph, node.index)
        if node.is_map:
            return reader.whole(feed, reader.size(feed))
        return reader.pass_on(feed, reader.outcome(node.index))

    def _fill(self, hole: Any) -> Any:
        value = self._value(self.graph.nodes[hole.node])
        for key in hole.path:
            value = value[key]
        return value

    def _gather(self, node: Node) -> Gathered[Any]:
        feed, length = feed_of(self.graph, node.index), self._length(node)
        outcomes = self._source.reader.outcomes(node.index, 0, length)
        keys = (self._source.reader.keys(feed.origin) if length else None) or range(length)
        values, missing = {}, {}
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome.kind == VALUE or (outcome.kind == FAILURE and feed.on_error is OnError.RETURN):
                values[key] = self._source.reader.pass_on(feed, outcome)
            else:
                missing[key] = _reason(outcome, is_omitted(feed, outcome))
        return Gathered(values, missing)

    def _length(self, node: Node) -> int:
        length = self._snapshot.record(node.name).length
        return 0 if length is None else length

    # --- failures ------------------------------------------------------------------------

    def _raise_failure(self) -> None:
        if self._snapshot.reason.startswith("deadline"):
            raise RunTimeoutError(f"run {self.id!r} failed: {self._snapshot.reason}.")
        first, index = self._snapshot.first_failure()
        if first is None:
            raise RunError(f"run {self.id!r} failed: {self._snapshot.reason or 'no reason is known'}.")
        raise self._failed(self.graph.nodes[index], first.index)

    def _failed(self, node: Node, index: int | None) -> StepFailedError:
        failure = self._failure(node, index)
        error = step_failed(failure, node.name, index if node.is_map and (index or 0) >= 0 else None)
        if failure.exception:
            error.__cause__ = exception_of(failure, node.name)
        return error

    def _failure(self, node: Node, index: int | None) -> Failure:
        start = index or 0
        reader = self._source.reader
        found = reader.outcome(node.index, start)
        if found.kind != FAILURE and node.is_map:
            found = reader.outcome(node.index, -1)
        return found.value if found.kind == FAILURE else Failure(kind="exception", error="unknown", message=found.kind)

    def _map_failed(self, node: Node) -> StepFailedError:
        outcomes = self._source.reader.outcomes(node.index, 0, self._length(node)) if self._length(node) else []
        failed = [(i, outcome.value) for i, outcome in enumerate(outcomes) if outcome.kind == FAILURE]
        if not failed:
            return self._failed(node, -1)
        few = ", ".join(f"item {i} ({f.error}: {f.message[:100]})" for i, f in failed[:3])
        error = StepFailedError(
            f"{len(failed)} of {len(outcomes)} items of step {node.name!r} failed: {few}"
            f"{', …' if len(failed) > 3 else ''}. run.value({node.name!r}, partial=True) gives the others.",
            node.name, failed[0][0], failed[0][1].kind, failed[0][1].traceback,
        )  # fmt: skip
        if failed[0][1].exception:
            error.__cause__ = exception_of(failed[0][1], node.name)
        return error

    # --- frames --------------------------------------------------------------------------

    def phases(self) -> pd.DataFrame:
        """A row a phase: status, counts, progress, times, result."""
        from celeryflow.runtime.snapshot import frames

        snapshot = self.snapshot()
        return frames.phases(
            snapshot, {phase: value for phase in self.graph.phases for value in self._phase_result(phase)}
        )

    def steps(self) -> pd.DataFrame:
        """A row a step: status, counts, attempts, times, error."""
        from celeryflow.runtime.snapshot import frames

        return frames.steps(self.snapshot())

    def items(self, step: str) -> pd.DataFrame:
        """A row an item of a map: key, status, attempts, times, error."""
        from celeryflow.runtime.snapshot import frames

        snapshot = self.snapshot()
        return frames.items(snapshot, step, self._keys(snapshot.record(step).node))

    def timeline(self) -> pd.DataFrame:
        """A row an attempt: when it was ready, claimed, started and finished, and why it ended."""
        from celeryflow.runtime.snapshot import frames

        return frames.timeline(self.snapshot(), lambda node: self._keys(self.graph.nodes[node]))

    def errors(self) -> pd.DataFrame:
        """A row a failed step or item: kind, error, message, traceback, last output."""
        from celeryflow.runtime.snapshot import frames

        snapshot = self.snapshot()
        failures = []
        for event in sorted(self._events, key=lambda event: (event.node, event.start)):
            if event.event == "failure":
                node = self.graph.nodes[event.node]
                index = event.start if node.is_map and event.start >= 0 else None
                failures.append((event.node, index, self._failure(node, event.start)))
        return frames.errors(snapshot, failures, lambda node: self._keys(self.graph.nodes[node]))

    def logs(self, step: str | None = None) -> pd.DataFrame:
        """A row a line that steps printed or logged."""
        from celeryflow.runtime.snapshot import frames

        lines = list(self._source.logs())
        if step is not None:
            node = self.snapshot().record(step).node
            lines = [line for line in lines if line.node == node.index]
        return frames.logs(lines, self.graph)

    def events(self) -> pd.DataFrame:
        """A row a change of the run's state."""
        from celeryflow.runtime.snapshot import frames

        self.snapshot()
        return frames.events(self._events, self.id, self.graph)

    def _phase_result(self, phase: str) -> list[Any]:
        """The value of the phase's only final step, if it has one."""
        inside = [node for node in self.graph.nodes if node.phase == phase]
        used = {i.node for node in inside for i in node.inputs}
        final = [node for node in inside if node.index not in used]
        record = self._snapshot.record(final[0].name) if len(final) == 1 else None
        if record is None or record.status is not State.SUCCESS:
            return []
        value = self._value(final[0])
        return [value if record.output_bytes <= INLINE_LIMIT_BYTES else _short(value)]

    def _keys(self, node: Node) -> Sequence[str] | None:
        """Short text of what each item was mapped from, or its key."""
        if not node.is_map or not self._length(node):
            return None
        feed, reader = feed_of(self.graph, node.index), self._source.reader
        keys = reader.keys(feed.origin)
        keys = reader.mapped_values(feed.origin) if keys is None else keys
        return None if keys is None else [_short(key) for key in keys]


def submit(traced: Traced, run_id: str) -> Run[Any]:
    """Start a traced workflow on the workers."""
    session = sessions.current()
    link = session.link
    _check_versions(link.store.live_workers())
    sealed = seal_run(traced, run_id, link.vault, __version__, link.settings.pool)
    link.store.put_code(sealed.code, link.settings.retention_s)
    link.store.stage(run_id, sealed)
    link.store.submit(run_id, sealed, {"owner": session.owner})
    return Run(run_id, StoredSource(session, run_id, sealed.graph, sealed.result))


def _check_versions(workers: dict[str, dict[str, str]]) -> None:
    if workers and not any((w["version"], w["python"]) == (__version__, PYTHON) for w in workers.values()):
        found = ", ".join(sorted({f"{w['version']} on Python {w['python']}" for w in workers.values()}))
        raise VersionMismatchError(
            f"the workers run celeryflow {found}; this notebook has {__version__} on Python {PYTHON}. "
            "Use the same on both sides."
        )


def run_inline(traced: Traced, run_id: str) -> Run[Any]:
    """Run a traced workflow here."""
    inline = Inline(traced, run_id, __version__)
    inline.run()
    run: Run[Any] = Run(run_id, InlineSource(inline))
    run.snapshot()
    return run


def attach(run_id: str) -> Run[Any]:
    """The run with that id, whoever started it.

    Raises
    ------
    UnknownRunError
        If the server knows no such run.
    InvalidNameError
        If it cannot be an id.
    """
    checks.check_name(run_id, "a run's id")
    session = sessions.current()
    record = session.link.store.meta(run_id).get("manifest")
    if record is None:
        hint = did_you_mean(run_id, session.link.store.run_ids(), "runs")
        raise UnknownRunError(f"no run {run_id!r} on this server.{hint}")
    manifest = open_manifest(record, run_id, session.link.vault)
    return Run(run_id, StoredSource(session, run_id, manifest.graph, manifest.result))


def history() -> pd.DataFrame:
    """A row a run of this deployment, the latest first."""
    from celeryflow.runtime.snapshot import frames

    return frames.history(history_rows())


def history_rows() -> list[dict[str, Any]]:
    """The runs of this deployment, the latest first."""
    store = sessions.current().link.store
    has_workers = bool(store.live_workers())
    found = []
    for run_id in store.run_ids():
        meta = store.meta(run_id)
        if meta:
            found.append(_history_row(run_id, meta, has_workers))
    return found


def _history_row(run_id: str, meta: dict[str, bytes], has_workers: bool) -> dict[str, Any]:
    status = meta["status"].decode()
    is_over = State(status).is_terminal and status != "pending"
    begun, ended = float(meta["submitted_at"]), float(meta.get("finished_at", 0)) or time.time()
    return {
        "run": run_id,
        "workflow": meta["workflow"].decode(),
        "status": status,
        "stalled": not is_over and not has_workers,
        "submitted_at": begun,
        "duration_s": ended - begun,
        "steps": int(meta["nodes"]),
        "failed": int(meta.get("bad", 0)),
        "tenant": meta.get("tenant", b"").decode() or None,
    }


def _deadline(timeout_s: float | None) -> float:
    if timeout_s is None:
        return float("inf")
    checks.check_timeout(timeout_s, "timeout_s")
    return time.monotonic() + timeout_s


def _short(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__
        text = f"<{type(value).__name__}: {type(error).__name__} in repr>"
    return text if len(text) <= KEY_CHARS else f"{text[: KEY_CHARS - 1]}…"


def _reason(outcome: Outcome, is_left_out: bool) -> str:
    if outcome.kind == FAILURE:
        return f"{outcome.value.error}: {outcome.value.message}"[:500]
    return {OMITTED: f"left out: {outcome.value}", "upstream": f"its input failed: {outcome.value}"}.get(
        outcome.kind, "not there yet"
    )
