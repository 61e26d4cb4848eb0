"""What has been heard of a run: its state, pictures and frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celeryflow.config import INLINE_LIMIT_BYTES
from celeryflow.engine.read import Told
from celeryflow.errors import CeleryflowError
from celeryflow.graph.model import Event, Graph, Node
from celeryflow.graph.states import State
from celeryflow.run.cells import trail
from celeryflow.run.failures import failures
from celeryflow.run.outputs import Outputs, short
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.sources import Source, resumed
from celeryflow.store.claims import Item

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from celeryflow.view.svg import Picture

_MOVES_FAILURE = frozenset(("failure", "started"))
"""Events after which views may show another failure than before."""


class Followed:
    """A run whose events are read as they come."""

    def __init__(self, run_id: str, source: Source) -> None:
        self.id = run_id
        self._source = source
        self._begin()

    def _begin(self) -> None:
        """Nothing has been seen yet."""
        self._events: list[Event] = []
        self._snapshot = Snapshot(self._source.graph, self.id)
        self._ends: dict[Item, Told] = {}
        self._outputs = Outputs(self._source, self._snapshot.nodes, self._ends)
        self._trail_of = 0

    # --- state ---------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """What it runs."""
        return self._source.graph

    @property
    def resumed_from(self) -> str | None:
        """Id of the earlier run whose results it took over (``workflow.resume``, ``reuse=``); its own is another."""
        return self._source.base or None

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
        snapshot = self._snapshot
        snapshot.unserved = {} if snapshot.status.is_terminal else self._source.unserved(snapshot.nodes)
        snapshot.misfits = self._source.misfits() if snapshot.unserved else ""
        return snapshot

    @property
    def seen(self) -> Snapshot:
        """All that was known at the last look."""
        return self._snapshot

    @property
    def is_over(self) -> bool:
        """Whether it had ended at the last look, and nobody here has resumed it since."""
        return self._snapshot.status.is_terminal and self._snapshot.generation >= resumed.get(self.id, 1)

    def _advance(self, wait_s: float) -> bool:
        return not self.is_over and bool(self.news(wait_s))

    def news(self, wait_s: float = 0.0) -> list[Event]:
        """What has happened since the last look, waiting up to `wait_s` seconds for something to.

        All that has happened, where the server has come back with an older state of the run.
        """
        found = self._source.follow(self._snapshot.last_seq, wait_s, self._snapshot.last_at)
        if found and found[0].seq <= self._snapshot.last_seq:
            self._begin()  # the server came back with an older state
        self._events += found
        self._note_ends(found)
        self._snapshot.apply_all(found)
        if not _MOVES_FAILURE.isdisjoint(event.event for event in found):
            self._find_trail(self._snapshot)
        return found

    def _note_ends(self, found: list[Event]) -> None:
        """Remember by which attempts items ended: no record of an earlier one is read in their places."""
        generation = self._snapshot.generation
        for event in found:
            generation = max(generation, event.generation)
            if event.event in ("success", "failure") and event.node >= 0:
                self._ends[event.node, event.start] = Told(event.event == "success", generation, event.attempt)

    def _find_trail(self, snapshot: Snapshot) -> None:
        """Look up where the failure to show was raised, once for each; its record has the traceback, and no value."""
        failure, node = snapshot.first_failure()
        if failure is None or failure.seq != self._trail_of:
            self._trail_of, snapshot.trail = 0, ()
        if failure is not None and not self._trail_of:
            self._trail_of = failure.seq
            with suppress(CeleryflowError):  # a picture without it is better than none
                snapshot.trail = trail(self._outputs.failure(snapshot.nodes[node], failure.index or 0).traceback)

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

        snapshot = self.snapshot()
        return frames.timeline(snapshot, lambda node: self._keys(snapshot.nodes[node]))

    def critical_path(self) -> pd.DataFrame:
        """A row a step or item of the longest chain of what ran, in order: what more workers would not make shorter.

        Running times are those that were measured, in seconds, all attempts together; an item of a map over a map waits
        for the same item alone. ``share`` is that of the chain, and ``queue_wait_s`` is not in it. ``makespan_1_s``,
        ``makespan_2_s``, ``makespan_4_s`` and so on, the same in each row, are what the run would take with so many
        worker processes that do nothing else (by list scheduling, at most twice what is possible; see
        `celeryflow.runtime.snapshot.schedule`).
        """
        from celeryflow.runtime.snapshot import frames

        snapshot = self.snapshot()
        return frames.critical_path(snapshot, lambda node: self._keys(snapshot.nodes[node]))

    def gantt(self) -> alt.LayerChart:
        """A chart of who ran what when: a line a worker process, a bar an attempt, above it how long that had waited.

        A dark line below marks the critical path (`critical_path`). Of thousands of attempts those that follow each
        other on a worker are drawn as one. Time between a run's end and its resume is left out. ``.save(path)`` writes
        it as ``.html``, ``.svg``, ``.png`` or ``.json``.

        Raises
        ------
        MissingExtraError
            If altair is not installed.
        """
        from celeryflow.view.extra import require_altair

        require_altair("run.gantt()")
        from celeryflow.view.gantt import gantt

        return gantt(self.snapshot())

    def errors(self) -> pd.DataFrame:
        """A row a failed step or item: kind, error, message, traceback, last output."""
        from celeryflow.runtime.snapshot import frames

        snapshot = self.snapshot()
        found = [*failures(self._events, snapshot, self._outputs)]
        return frames.errors(snapshot, found, lambda node: self._keys(snapshot.nodes[node]))

    def logs(self, step: str | None = None) -> pd.DataFrame:
        """A row a line that steps printed or logged."""
        from celeryflow.runtime.snapshot import frames

        lines, snapshot = list(self._source.logs()), self.snapshot()
        if step is not None:
            node = snapshot.record(step).node
            lines = [line for line in lines if line.node == node.index]
        return frames.logs(lines, snapshot.nodes)

    def events(self) -> pd.DataFrame:
        """A row a change of the run's state."""
        from celeryflow.runtime.snapshot import frames

        nodes = self.snapshot().nodes
        return frames.events(self._events, self.id, nodes)

    def _length(self, node: Node) -> int:
        length = self._snapshot.record(node.name).length
        return 0 if length is None else length

    def _phase_result(self, phase: str) -> list[Any]:
        """The value of the phase's only final step, if it has one."""
        inside = [node for node in self.graph.nodes if node.phase == phase]
        used = {i.node for node in inside for i in node.inputs}
        final = [node for node in inside if node.index not in used]
        record = self._snapshot.record(final[0].name) if len(final) == 1 else None
        if record is None or record.status is not State.SUCCESS:
            return []
        value = self._outputs.value(final[0])
        return [value if record.output_bytes <= INLINE_LIMIT_BYTES else short(value)]

    def _keys(self, node: Node) -> Sequence[str] | None:
        return self._outputs.keys(node, self._length(node))
