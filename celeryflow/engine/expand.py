"""Bodies that are traced in a worker, with the values at hand: what they call is added to the run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from celeryflow.engine.link import Link
from celeryflow.engine.read import Expansion, Reader
from celeryflow.errors import WorkflowError
from celeryflow.graph import trace
from celeryflow.graph.control import Again
from celeryflow.graph.limits import check_nodes
from celeryflow.graph.model import OnError, StepSpec
from celeryflow.graph.traced import Callee, Traced, place
from celeryflow.values.manifest import Call, PackedCode, seal_part
from celeryflow.values.vault import EXPANSION, VALUE, Pointer

DEEPEST = 200

PICKER = Callee(function=max, spec=StepSpec(name="result", label="result"))
"""What the collecting node of a part is called; its function is never run."""


class Added(NamedTuple):
    """A part that was staged: the signed record of it, its first node, and how many it has."""

    record: bytes
    first: int
    size: int


class Passed(NamedTuple):
    """The item's value is that of the part, passed on unread."""

    pointer: Pointer


class Blocked(NamedTuple):
    """There is no value: this node of the part has none."""

    node: int


class Expander:
    """Expands items of nodes in one process; functions that it sent once are not sent again."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._packed: PackedCode = {}
        self._sent: set[tuple[str, str]] = set()
        self.on_added: Callable[[Traced, list[str]], None] | None = None

    def begin(self, call: Call, binding: tuple[str, int, int], body: Callable[[], Any]) -> Any:
        """The value of a body, or what it added."""
        return self._go_on(call, binding, lambda _, __: body(), None, 0)

    def go_on(
        self, reader: Reader, call: Call, binding: tuple[str, int, int], function: Callable[..., Any], record: bytes
    ) -> Any:
        """After the end of the part that `record` speaks of: its value, or the next part."""
        done = self.link.vault.open_as(EXPANSION, Expansion, record, binding)
        if not done.is_again:
            pointer = reader.pointer(done.last)
            return Blocked(done.last) if pointer is None else Passed(pointer)
        outcome = reader.outcome(done.last)
        if outcome.kind != VALUE:
            return Blocked(done.last)
        return self._go_on(call, binding, function, outcome.value, done.rounds)

    def _go_on(
        self, call: Call, binding: tuple[str, int, int], function: Callable[..., Any], value: Any, rounds: int
    ) -> Any:
        if call.depth >= DEEPEST:
            raise WorkflowError(f"step {call.step!r} is nested {DEEPEST} deep. Does a workflow call itself forever?")
        while True:
            found, traced = trace.expand(call.step, partial(function, value, rounds), PICKER, call.spec.priority)
            rounds += 1
            if traced is not None:
                return self._add(call, binding, traced, rounds, isinstance(found, Again))
            if not isinstance(found, Again):
                return found
            value = found.value

    def _add(self, call: Call, binding: tuple[str, int, int], traced: Traced, rounds: int, is_again: bool) -> Added:
        run, node, item = binding
        limited = next((n.name for n in traced.graph.nodes if n.spec.quota is not None), None)
        if limited is not None:
            raise WorkflowError(
                f"step {limited!r} has a quota, which is set aside at the submit of a run, and {call.step!r} adds it "
                "while the run goes on. Run the workflow that has it by itself."
            )
        store, vault, count = self.link.store, self.link.vault, len(traced.graph.nodes)
        first = store.allocate(run, count + 1)
        check_nodes(call.step, first + count)
        number = f"[{rounds - 1}]" if is_again else f"[{item}]" if call.mapped else ""
        is_fatal = call.is_fatal and call.on_error is OnError.RAISE
        facts = {"depth": call.depth + 1, "parent": node, "phase": call.phase}
        placed = place(traced, first, f"{call.step}{number}", is_fatal, **facts)
        sealed = seal_part(placed, run, vault, (node, item), self.link.settings.pool, self._packed)
        unsent = {digest: data for digest, data in sealed.code.items() if (run, digest) not in self._sent}
        if unsent:
            store.put_code(unsent, run)
            self._sent |= {(run, digest) for digest in unsent}
        store.stage_part(run, sealed)
        if self.on_added is not None:
            self.on_added(placed, sealed.digests)
        expansion = Expansion(first=first, last=first + count - 1, rounds=rounds, is_again=is_again)
        return Added(vault.seal(EXPANSION, binding, expansion), first, count)
