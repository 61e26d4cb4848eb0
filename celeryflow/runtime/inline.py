"""A run in this process, one step after the other, with the functions themselves: for a debugger.

The same code executes and reads the steps as in a worker; only the store is a few dicts.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from celeryflow.config import Settings
from celeryflow.engine.execute import Executor, LoadedFunction
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture, Writer
from celeryflow.engine.read import Reader
from celeryflow.engine.slots import Slots
from celeryflow.graph.model import Edge, Event, Input, LogLine, Node
from celeryflow.graph.traced import Traced
from celeryflow.store.claims import Claim, Item, Result, Unit
from celeryflow.store.scripts import Store
from celeryflow.values.blobs import FileBlobs
from celeryflow.values.envelope import Keyring
from celeryflow.values.manifest import Sealed, seal_run
from celeryflow.values.vault import Vault

_EVENTS = {"retry": "retrying", "absorbed": "failure", "upstream": "skipped", "omitted": "skipped"}


@dataclass
class Memory:
    """What the store would hold of one run."""

    run: str
    nodes: dict[int, Node] = field(default_factory=dict)
    specs: dict[int, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    records: dict[Item, bytes] = field(default_factory=dict)
    marks: dict[int, list[int]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    refusals: dict[int, str] = field(default_factory=dict)

    def emit(self, event: str, **fields: Any) -> None:
        """Add an event."""
        self.events.append(Event(seq=len(self.events) + 1, at=time.time(), event=event, **fields))

    def stage_part(self, run: str, sealed: Sealed) -> None:
        """As of the store, for whole graphs too."""
        self.nodes |= {node.index: node for node in sealed.nodes}
        self.specs |= {node.index: spec for node, spec in zip(sealed.nodes, sealed.specs, strict=True)}
        self.lengths |= {node.index: node.length for node in sealed.nodes if node.length is not None}

    def put_code(self, code: dict[str, bytes], run: str) -> None:
        """Functions are taken as they are."""

    def allocate(self, run: str, count: int) -> int:
        """As of the store."""
        return max(self.nodes) + 1

    def states(self, run: str, nodes: Sequence[int]) -> list[tuple[str, str]]:
        """As of the store."""
        return [(self.ends.get(node, "."), "") for node in nodes]

    def waiting_ranges(self, run: str, node: int) -> list[range]:
        """As of the store."""
        return []

    def refusal(self, run: str, node: int) -> str:
        """As of the store."""
        return self.refusals.get(node, "")

    def outputs(self, run: str, items: Sequence[Item]) -> list[bytes | None]:
        """As of the store."""
        return [self.records.get(item) for item in items]

    def spec(self, run: str, node: int) -> bytes:
        """As of the store."""
        return self.specs[node]

    def chunks(self, run: str, node: int, start: int, count: int) -> list[int]:
        """As of the store."""
        return self.marks.get(node, [-1] * (start + count))[start : start + count]


class Echo(Capture):
    """Output goes where it always goes; logs of a step are kept as well."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._last = Writer()

    def end(self) -> None:
        """Nothing is held back here."""

    def tail(self) -> str:
        """The output is on the screen already."""
        return ""

    def write(self, stream: str, text: str) -> None:
        """Keep lines of the run's log."""
        place = self._now.place
        where = {"node": place.node, "index": place.index, "attempt": place.attempt}
        line = LogLine(at=time.time(), worker="inline", stream=stream, text=text.rstrip("\n"), **where)
        self.memory.logs.append(line)


class Inline:
    """Executes a traced workflow here; `memory` and `vault` hold what came of it."""

    def __init__(self, traced: Traced, run: str, version: str) -> None:
        folder = tempfile.mkdtemp(prefix="celeryflow-inline-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.vault = Vault(Keyring([secrets.token_bytes(32)]), FileBlobs(folder))
        self.graph, self.memory = traced.graph, Memory(run)
        sealed, self.result = seal_run(traced, run, self.vault, version)
        self.memory.stage_part(run, sealed)
        self._functions: dict[str, LoadedFunction] = {}
        self._learn(traced, sealed.digests)
        link = Link(Settings(), cast(Store, self.memory), self.vault)
        self._executor = Executor(link, Slots(1).slot(0), Echo(self.memory), "inline", self._functions)
        self._executor.expander.on_added = self._learn
        self.reader = Reader(link.store, self.vault, run)
        self._delivered: set[int] = set()
        self._choices: dict[int, int] = {}

    def _learn(self, traced: Traced, digests: Sequence[str]) -> None:
        callees = (call.callee for call in traced.calls)
        self._functions |= {d: (c.function, c.retry_on) for d, c in zip(digests, callees, strict=True)}

    def function(self, digest: str) -> Callable[..., Any]:
        """A function of the workflow."""
        return self._functions[digest][0]

    def run(self) -> None:
        """Run every step whose inputs are there."""
        memory = self.memory
        memory.emit("submitted", status="pending")
        memory.emit("started", status="running")
        self._run_nodes(self.graph.nodes)
        refused = next((why for node, why in memory.refusals.items() if memory.nodes[node].is_fatal), "")
        memory.emit("ended", status="failure" if refused or self._has_failed() else "success", error=refused)

    def _has_failed(self) -> bool:
        failed = (event.node for event in self.memory.events if event.event == "failure" and not event.is_absorbed)
        return any(self.memory.nodes[node].is_fatal for node in failed)

    def _run_nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            cause = next((i for i in node.inputs if self._is_closed(i)), None)
            if cause is not None:
                is_bad = cause.edge is not Edge.CHOICE or self._is_bad(cause.node)
                self._skip(node, cause.node, "upstream" if is_bad else "branch")
            elif not (self.graph.fail_fast and self._has_failed()) and not self._refuse(node):
                self._run_node(node)

    def _skip(self, node: Node, cause: int, kind: str) -> None:
        self.memory.ends[node.index] = "k"
        count = self.memory.lengths.get(node.index, 1)
        self.memory.emit("skipped", node=node.index, count=count, kind=kind, cause=cause)

    def _refuse(self, node: Node) -> bool:
        """Whether a node is over its quota, of which nobody else has anything in flight here."""
        _, most = node.spec.quota or ("", None)
        items = self.memory.lengths.get(node.index, 1)
        if most is None or items <= most:
            return False
        why = f"over quota: asked for {items} items, 0 in use, quota {most}"
        self.memory.ends[node.index], self.memory.refusals[node.index] = "c", why
        self.memory.emit("cancelled", node=node.index, error=why)
        return True

    def _is_bad(self, node: int) -> bool:
        return self.memory.ends.get(node) in ("f", "k", "c")

    def _is_closed(self, needed: Input) -> bool:
        """Whether nothing will come from an input: items of a failed map still do."""
        if needed.edge is Edge.ENDED:
            return False
        if needed.edge is Edge.CHOICE and not self._is_bad(needed.node):
            return self._choices[needed.node] != needed.choice
        is_none_left = needed.edge in (Edge.WHOLE, Edge.CHOICE) or needed.node not in self._delivered
        return self._is_bad(needed.node) and is_none_left

    def _run_node(self, node: Node) -> None:
        ends = self.memory.ends
        if node.is_planned:
            self._run_items(node, -1, 0)
            if node.index in ends:
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
        ends[node.index] = "f" if failed else "k" if skipped else "s"
        self.memory.emit(
            "settled", node=node.index, status="failure" if failed else "skipped" if skipped else "success"
        )

    def _run_items(self, node: Node, start: int, stop: int) -> None:
        exceptions = 0
        while start < stop:
            for result in self._execute(node, start, 1 if exceptions else stop - start, exceptions, {}):
                ended = self._go_on(node, result)
                exceptions = exceptions + 1 if ended.outcome == "retry" else 0
                start = ended.start + (ended.outcome != "retry") * ended.count
                if exceptions:
                    time.sleep(ended.delay_s)
                    break

    def _execute(self, node: Node, start: int, count: int, exceptions: int, inputs: dict[Item, bytes]) -> list[Result]:
        unit = Unit(node.index, start, count, exceptions, 0, self.memory.specs[node.index], inputs)
        self.memory.emit("claimed", node=node.index, start=start, count=count, attempt=exceptions + 1, worker="inline")
        return self._executor.run(Claim("", self.memory.run, 1, (unit,)))

    def _go_on(self, node: Node, result: Result) -> Result:
        """Apply a result; while it is an expansion, run what that added, and then its item again."""
        while result.outcome == "expand":
            part = [self.memory.nodes[i] for i in range(result.number, result.number + result.length)]
            self.memory.emit("expanded", node=node.index, start=result.start, part=result.number, nodes=tuple(part))
            self._run_nodes(part)
            (result,) = self._execute(node, result.start, 1, 0, {(node.index, result.start): result.record})
        self._apply(result)
        return result

    def _apply(self, result: Result) -> None:
        node, memory = result.node, self.memory
        if result.outcome != "retry":
            memory.records[node, result.start] = result.record
        if result.outcome == "length":
            self._set_length(node, result.length)
            return
        is_item = node in memory.lengths and result.start >= 0
        if is_item and result.outcome != "retry":
            marks = memory.marks.setdefault(node, [-1] * memory.lengths[node])
            marks[result.start : result.start + result.count] = [result.start] * result.count
        if result.outcome == "upstream" and not is_item:
            self._skip(memory.nodes[node], result.number, "upstream")
            return
        if not is_item and result.outcome in ("success", "failure"):
            memory.ends[node] = result.outcome[0]
            self._choices[node] = result.number
        memory.emit(
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
