"""Run claims in one process: their units, until the time of a commit has come; a Result each, nothing raised."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from celeryflow.engine import registered
from celeryflow.engine.expand import Expander
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture
from celeryflow.engine.slots import Slot
from celeryflow.engine.unit import CHUNK_S, Stopped, UnitWork
from celeryflow.errors import IntegrityError
from celeryflow.store.claims import Claim, Item, Result, Unit
from celeryflow.values.functions import unpack_function
from celeryflow.values.manifest import Call

T = TypeVar("T")

LoadedFunction = tuple[Callable[..., Any], tuple[type[BaseException], ...]]
"""A step's code, and the exceptions after which it is tried again."""


def finish(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits: the same code runs steps one by one and on an event loop."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    raise RuntimeError("work outside of an event loop has waited")


class Executor:
    """Runs claims in one process; `functions` by digest are taken as they are, others are fetched and cached.

    `lack` says what is missing on this host, if that is behind an error of a step.
    """

    def __init__(
        self,
        link: Link,
        slot: Slot,
        capture: Capture,
        worker: str,
        functions: Mapping[str, LoadedFunction] | None = None,
        lack: Callable[[BaseException], str] = lambda _: "",
    ) -> None:
        self.link, self.slot, self.capture, self.worker = link, slot, capture, worker
        self.expander, self.lack = Expander(link), lack
        self.is_in_step = self.is_on_loop = False
        self._made: dict[Item, bytes] = {}
        self._loaded = lru_cache(256)(self._load)
        self._find = functions.__getitem__ if functions else self._loaded

    def on_loop(self, slot: Slot) -> Executor:
        """One like this for async steps of a running event loop."""
        other = copy.copy(self)
        other.slot, other.is_on_loop, other._made = slot, True, {}
        return other

    def run(self, claim: Claim) -> list[Result]:
        """Results of the claim's items, in order; those left out are to be handed back."""
        return finish(self.work(claim))

    async def work(self, claim: Claim) -> list[Result]:
        """As `run`; waits for async steps on the running event loop, if it is made for one."""
        started = time.monotonic()
        self._made.clear()
        results: list[Result] = []
        for unit in claim.units:
            if results and time.monotonic() - started > CHUNK_S:
                break
            work = UnitWork(self, claim, unit, started)
            results += await work.run()
            self._made.update({(r.node, r.start): r.record for r in results[-1:] if r.outcome == "success"})
            if work.is_cut or (results[-1].outcome != "success" and unit.count == 1):
                break
        return results

    def stop_if_asked(self) -> None:
        """End the step that is running, if it is the one that the supervisor wants ended."""
        if self.is_in_step and self.slot.is_stopped:
            raise Stopped

    def fail(self, claim: Claim, error: Exception) -> list[Result]:
        """Results that say that nothing of the claim could be run."""
        started = time.monotonic()
        return [result for unit in claim.units for result in UnitWork(self, claim, unit, started).fail(error)]

    def forget(self) -> None:
        """Load functions anew: modules that they refer to have changed."""
        self._loaded.cache_clear()

    def known(self, unit: Unit) -> dict[Item, bytes]:
        """Records that came with the unit or were made in this claim."""
        return {**unit.inputs, **self._made}

    def function(self, call: Call) -> LoadedFunction:
        """What a node calls: by its name where no code is taken, else by value."""
        return registered.load(call) if registered.is_begun() else self._find(call.code)

    def _load(self, digest: str) -> LoadedFunction:
        data = self.link.store.get_code(digest)
        if data is None:
            raise IntegrityError(f"the code {digest[:12]} is no longer on the server.")
        return unpack_function(data, digest)
