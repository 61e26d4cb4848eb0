"""How an execution stands, told from its run alone: whoever has the id, in whichever process, is told the same."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from celeryflow.declarative.model import WorkflowStatus
from celeryflow.graph import checks
from celeryflow.graph.model import Edge, Node, Role
from celeryflow.graph.states import State
from celeryflow.run.run import Run
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord

_ID = re.compile(r".+-x[0-9a-f]{12}")
_SHOWN = {State.READY: State.PENDING, State.RETRYING: State.RUNNING}


def new_execution_id(workflow_id: str) -> str:
    """A fresh id of a run, which tells that it is an execution: those of other runs have no x."""
    return f"{checks.slug(workflow_id)[:60]}-x{secrets.token_hex(6)}"


def is_execution(run_id: str) -> bool:
    """Whether a run is one of the declarative engine."""
    return _ID.fullmatch(run_id) is not None


def at(seconds: float | None) -> datetime | None:
    """A time of the server's, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def status_of(run: Run[Any]) -> dict[str, Any]:
    """What ``WorkflowEngine.get_workflow_status`` gives."""
    return _Told(run).status()


class _Told:
    """One look at a run."""

    def __init__(self, run: Run[Any]) -> None:
        self.run = run
        self.snapshot: Snapshot = run.snapshot()
        self.nodes = self.snapshot.nodes
        self.steps = [record for record in self.snapshot.top if record.node.role is Role.CALL]
        self.culprits: dict[int, str] = {}
        for record in self.steps:  # each comes after those that it needs
            self._find_culprit(record)

    def status(self) -> dict[str, Any]:
        levels, snapshot = self._levels(), self.snapshot
        steps = {record.node.name: self._step(record, levels[record.node.index]) for record in self.steps}
        failed = next((f"step {name!r}: {step['error']}" for name, step in steps.items() if step["error"]), None)
        return {
            "execution_id": self.run.id,
            "workflow_id": snapshot.graph.name,
            "status": WorkflowStatus(snapshot.status.value),
            "progress": self._progress(),
            "steps": steps,
            "submitted_at": at(snapshot.submitted_at),
            "started_at": at(snapshot.started_at),
            "finished_at": at(snapshot.finished_at),
            "duration_s": snapshot.duration_s(),
            "error": (failed or snapshot.reason) if snapshot.status is State.FAILURE else snapshot.reason or None,
        }

    def _progress(self) -> dict[str, Any]:
        """What succeeded, or was left out by a choice: a failure, and what it stopped, is never complete."""
        done = sum(r.status is State.SUCCESS or (r.status is State.SKIPPED and r.is_left_out) for r in self.steps)
        total = len(self.steps)
        return {"completed_steps": done, "total_steps": total, "percentage": 100.0 * done / total}

    def _step(self, record: StepRecord, level: int) -> dict[str, Any]:
        undecided = self._undecided(record)
        state = State.FAILURE if undecided else _SHOWN.get(record.status, record.status)
        result, error = None, None
        if state is State.SUCCESS:
            result, error = self._result(record)
        elif state is State.FAILURE:
            error = (undecided or record).error
        return {
            "status": state.value,
            "level": level,
            "started_at": at(record.started_at),
            "finished_at": at(record.finished_at),
            "duration_s": record.duration_s(self.snapshot.last_at or 0.0),
            "attempts": record.attempts,
            "result": result,
            "error": error,
            "reason": self._reason(record) if state in (State.SKIPPED, State.CANCELLED) else None,
        }

    def _result(self, record: StepRecord) -> tuple[Any, str | None]:
        try:
            return self.run.value(record.node.name), None
        except Exception as error:  # noqa: BLE001 - what it is made of may not be installed here
            return None, f"its result cannot be read here: {type(error).__name__}: {error}"

    # --- why it did not run ------------------------------------------------------------------

    def _reason(self, record: StepRecord) -> str:
        if record.status is State.CANCELLED:
            return record.error or self.snapshot.reason
        if record.node.index in self.culprits:
            return f"needs {self.culprits[record.node.index]!r}, which failed"
        left_out = [r.node.name for r in self._dependencies(record.node) if r.status is State.SKIPPED]
        if left_out:
            return f"needs {' or '.join(map(repr, left_out))}, which did not run"
        gate = self._gate(record.node)
        if gate is None:
            return record.error
        decided = self.run.value(gate.name)
        chosen = [r.node.name for r in self.steps if self._choice(r.node, gate) == decided]
        return f"step {chosen[0]!r} was chosen" if chosen else "its condition did not hold"

    def _find_culprit(self, record: StepRecord) -> None:
        """Note the failed step that one was skipped for, by way of others."""
        for other in self._dependencies(record.node):
            has_failed = other.status is State.FAILURE or self._undecided(other)
            culprit = other.node.name if has_failed else self.culprits.get(other.node.index)
            if culprit is not None:
                self.culprits.setdefault(record.node.index, culprit)

    def _undecided(self, record: StepRecord) -> StepRecord | None:
        """The condition of this very step, if it could not be asked."""
        gate, others = self._gate(record.node), [self._gate(other.node) for other in self._dependencies(record.node)]
        if gate is None or gate in others:
            return None
        above = [gate, *(n for n in self._inputs(gate) if n.role is Role.DECIDE)]
        failed = (self.snapshot.record_of(node.index) for node in above if node not in others)
        return next((found for found in failed if found.status is State.FAILURE), None)

    def _gate(self, node: Node) -> Node | None:
        return next((self.nodes[i.node] for i in node.inputs if i.edge is Edge.CHOICE), None)

    def _choice(self, node: Node, gate: Node) -> int | None:
        return next((i.choice for i in node.inputs if i.edge is Edge.CHOICE and i.node == gate.index), None)

    def _inputs(self, node: Node) -> Iterable[Node]:
        return (self.nodes[i.node] for i in node.inputs)

    def _dependencies(self, node: Node) -> list[StepRecord]:
        """The steps whose results it takes, or waits for."""
        found = [n for n in self._inputs(node) if n.role is Role.CALL]
        found += [m for n in self._inputs(node) if n.role is Role.PICK for m in self._inputs(n) if m.role is Role.CALL]
        return [self.snapshot.record_of(n.index) for n in found]

    def _levels(self) -> dict[int, int]:
        """How many steps must be done before each, one after the other; nodes that decide are none."""
        after: dict[int, int] = {}
        levels: dict[int, int] = {}
        for index, node in sorted(self.nodes.items()):
            levels[index] = max((after[i.node] for i in node.inputs), default=0)
            after[index] = levels[index] + (node.role is Role.CALL)
        return levels
