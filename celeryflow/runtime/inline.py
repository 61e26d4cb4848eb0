"""A run in this process, one step after the other, with the functions themselves: for a debugger.

The same code executes and reads the steps as in a worker; only the store is a few dicts.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from celeryflow.config import Settings
from celeryflow.engine.execute import Executor
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture, Place
from celeryflow.engine.read import Reader
from celeryflow.engine.slots import Slots
from celeryflow.graph.model import Edge, Event, LogLine, Node
from celeryflow.graph.trace import Traced
from celeryflow.store.scripts import Claim, Item, Result, Store, Unit
from celeryflow.values.blobs import FileBlobs
from celeryflow.values.envelope import Keyring
from celeryflow.values.manifest import Sealed, seal_run
from celeryflow.values.vault import Vault

_EVENTS = {"retry": "retrying", "absorbed": "failure", "upstream": "skipped", "omitted": "skipped"}


@dataclass
class Memory:
    """What the store would hold of one run."""

    run: str
    sealed: Sealed
    events: list[Event] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    records: dict[Item, bytes] = field(default_factory=dict)
    marks: dict[int, list[int]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    def emit(self, event: str, **fields: Any) -> None:
        """Add an event."""
        self.events.append(Event(seq=len(self.events) + 1, at=time.time(), event=event, **fields))

    def outputs(self, run: str, items: Sequence[Item]) -> list[bytes | None]:
        """As of the store."""
        return [self.records.get(item) for item in items]

    def spec(self, run: str, node: int) -> bytes:
        """As of the store."""
        return self.sealed.specs[node]

    def chunks(self, run: str, node: int, start: int, count: int) -> list[int]:
        """As of the store."""
        return self.marks.get(node, [-1] * (start + count))[start : start + count]


class Echo(Capture):
    """Output goes where it always goes; logs of a step are kept as well."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._place = Place()

    def end(self) -> None:
        """Nothing is held back here."""

    def tail(self) -> str:
        """The output is on the screen already."""
        return ""

    def write(self, stream: str, text: str) -> None:
        """Keep lines of the run's log."""
        where = {"node": self._place.node, "index": self._place.index, "attempt": self._place.attempt}
        line = LogLine(at=time.time(), worker="inline", stream=stream, text=text.rstrip("\n"), **where)
        self.memory.logs.append(line)


class Inline:
    """Executes a traced workflow here; `memory` and `vault` hold what came of it."""

    def __init__(self, traced: Traced, run: str, version: str) -> None:
        folder = tempfile.mkdtemp(prefix="celeryflow-inline-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.vault = Vault(Keyring([secrets.token_bytes(32)]), FileBlobs(folder))
        self.graph = traced.graph
        self.memory = Memory(run, seal_run(traced, run, self.vault, version))
        self.memory.lengths = {n.index: n.length for n in traced.graph.nodes if n.length is not None}
        callees = (call.callee for call in traced.calls)
        functions = {d: (c.function, c.retry_on) for d, c in zip(self.memory.sealed.digests, callees, strict=True)}
        link = Link(Settings(), cast(Store, self.memory), self.vault)
        self._executor = Executor(link, Slots(1).slot(0), Echo(self.memory), "inline", functions)
        self.reader = Reader(link.store, self.vault, run)
        self._bad: set[int] = set()
        self._delivered: set[int] = set()

    def run(self) -> None:
        """Run every step whose inputs are there."""
        memory = self.memory
        memory.emit("submitted", status="pending")
        memory.emit("started", status="running")
        for node in self.graph.nodes:
            cause = next((i.node for i in node.inputs if self._is_closed(i.node, i.edge)), None)
            if cause is not None:
                self._bad.add(node.index)
                memory.emit(
                    "skipped", node=node.index, count=memory.lengths.get(node.index, 1), kind="upstream", cause=cause
                )
            elif not (self._bad and self.graph.fail_fast):
                self._run_node(node)
        failed = any(event.event == "failure" and not event.is_absorbed for event in memory.events)
        memory.emit("ended", status="failure" if failed else "success")

    def _is_closed(self, node: int, edge: Edge) -> bool:
        """Whether nothing will come from an input: items of a failed map still do."""
        return node in self._bad and (edge is Edge.WHOLE or node not in self._delivered)

    def _run_node(self, node: Node) -> None:
        if node.is_planned:
            self._run_items(node, -1, 0)
            if node.index in self._bad:
                return
        elif node.source is not None and node.length is None:
            self._set_length(node.index, self.memory.lengths[node.source])
        if not node.is_map:
            self._run_items(node, 0, 1)
            return
        self._run_items(node, 0, self.memory.lengths[node.index])
        self._delivered.add(node.index)
        mine = [event for event in self.memory.events if event.node == node.index and not event.is_absorbed]
        failed = any(event.event == "failure" for event in mine)
        skipped = any(event.event == "skipped" and event.kind == "upstream" for event in mine)
        self._bad |= {node.index} if failed or skipped else set()
        self.memory.emit(
            "settled", node=node.index, status="failure" if failed else "skipped" if skipped else "success"
        )

    def _run_items(self, node: Node, start: int, stop: int) -> None:
        exceptions = 0
        while start < stop:
            count = 1 if exceptions else stop - start
            unit = Unit(node.index, start, count, exceptions, 0, self.memory.sealed.specs[node.index], {})
            self.memory.emit(
                "claimed", node=node.index, start=start, count=count, attempt=exceptions + 1, worker="inline"
            )
            for result in self._executor.run(Claim("", self.memory.run, 1, (unit,))):
                self._apply(result)
                exceptions = exceptions + 1 if result.outcome == "retry" else 0
                start = result.start + (result.outcome != "retry") * result.count
                if exceptions:
                    time.sleep(result.delay_s)
                    break

    def _apply(self, result: Result) -> None:
        node = result.node
        if result.outcome != "retry":
            self.memory.records[node, result.start] = result.record
        if result.outcome == "length":
            self._set_length(node, result.length)
            return
        if result.start >= 0 and node in self.memory.lengths and result.outcome != "retry":
            marks = self.memory.marks.setdefault(node, [-1] * self.memory.lengths[node])
            marks[result.start : result.start + result.count] = [result.start] * result.count
        if result.outcome == "failure" and (node not in self.memory.lengths):
            self._bad.add(node)
        self.memory.emit(
            _EVENTS.get(result.outcome, result.outcome),
            node=node,
            start=result.start,
            count=result.count,
            attempt=result.attempt,
            worker="inline",
            kind=result.outcome if result.outcome in ("upstream", "omitted") else result.kind,
            error=result.error,
            is_absorbed=result.outcome == "absorbed",
            durations_s=result.durations_s,
            output_bytes=result.output_bytes,
            delay_s=result.delay_s,
        )

    def _set_length(self, node: int, length: int) -> None:
        self.memory.lengths[node] = length
        self.memory.emit("length", node=node, count=length)
