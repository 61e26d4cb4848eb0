"""One claim at a time: held in the store and in a slot, executed, committed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from celeryflow.engine import processes
from celeryflow.engine.execute import Executor
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture
from celeryflow.engine.slots import Slot, Slots
from celeryflow.engine.surroundings import Surroundings
from celeryflow.engine.unit import Stopped
from celeryflow.errors import ServerError
from celeryflow.store.claims import Claim, Result


def _open(_: Claim) -> AbstractAsyncContextManager[None]:
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Lane:
    """Where a drainer works: its name in the store, and what it works with.

    `door` is passed by each claim before it is executed; a lane that `is_for_one` takes no further one. After a step,
    `is_alone` tells whether nothing else runs in this process.
    """

    name: str
    label: str
    link: Link
    slot: Slot
    executor: Executor
    capture: Capture
    surroundings: Surroundings
    slots: Slots
    is_for_one: bool = False
    door: Callable[[Claim], AbstractAsyncContextManager[None]] = _open
    is_alone: Callable[[], bool] = lambda: True

    @property
    def is_spent(self) -> bool:
        """Whether Celery replaces this process after the drain: it was larger than it may be."""
        return 0 < self.link.settings.max_memory_per_child_bytes < processes.peak_bytes()

    @property
    def is_closing(self) -> bool:
        """Whether to begin nothing more: the worker stops, or this process is too large."""
        limit_bytes = self.link.settings.max_memory_per_child_bytes
        return self.slots.is_stopping or (self.is_spent and processes.resident_bytes() > limit_bytes)

    def idle(self) -> None:
        """Nothing is claimed, and the lease is kept alive."""
        self.slot.hold(self.name, "", "")

    def claim(self, ticket: str = "") -> tuple[bool, Claim | None]:
        """Ask for work: whether to ask again at once, and the claim."""
        return self.link.store.claim(self.name, secrets.token_hex(16), self.label, ticket)

    async def serve(self, claim: Claim) -> tuple[bool, Claim | None]:
        """Execute and commit; as of `claim`, what is next."""
        self.slot.hold(self.name, claim.token, claim.run)
        try:
            async with self.door(claim):
                results = await self._execute(claim)
            self.capture.ship(self.link.store)
        except Stopped:
            results = []
        except asyncio.CancelledError:
            if not self.slot.is_stopped:
                raise
            results = []  # before it had begun
        except ServerError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged manifest, say, is the steps' failure and never a hang
            results = self.executor.fail(claim, error)
        following = "" if self.is_for_one or self.is_closing else secrets.token_hex(16)
        if self.slot.is_stopped:
            self._end_leftovers()
        _, more, following_claim = self.link.store.commit(self.name, claim.token, following, self.label, results)
        return more, following_claim

    def _end_leftovers(self) -> None:
        """What a stopped step has started ends with it, and with this process, where it does nothing else."""
        if self.is_alone() and processes.has_started_others():
            processes.kill_tree(os.getpid())

    async def _execute(self, claim: Claim) -> list[Result]:
        if self.surroundings.enter(claim.run):
            self.executor.forget()
        results = await self.executor.work(claim)
        self.surroundings.note_imports()
        return results

    def leave(self) -> None:
        """Work here no more; what is held goes back."""
        self.slot.clear()
        self.link.store.release(self.name)
