"""Async steps, many at a time on one event loop: each in a lane of its own, with its own claim, lease and limits.

What the loop asks of the store is short and is not awaited. A process has one loop for as long as it lives, so that a
step may keep a client open for the next.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from celeryflow.engine.lane import Lane
from celeryflow.engine.unit import Stopped
from celeryflow.engine.watched import make_task
from celeryflow.errors import ServerError
from celeryflow.store.claims import Claim

Served: TypeAlias = asyncio.Task[tuple[bool, Claim | None]]
"""A lane's task for one claim; its result is as of `Lane.claim`."""

ASK_S = 0.05
"""How often a loop with room asks for work that somebody else made ready."""


def concurrency(queue: str) -> int:
    """How many steps of a queue run at a time in one process; 0 for those that are not async."""
    found = re.search(r"~(\d+)", queue)
    return int(found[1]) if found else 0


class EventLoop:
    """Serves the async steps of one queue at a time, beside the drainer whose process it is.

    Parameters
    ----------
    own : Lane
        The drainer's: it brings the first claim.
    index : int
        Number of the process, by which the slots of further lanes are found.
    """

    def __init__(self, own: Lane, index: int) -> None:
        self._own, self._index = own, index
        self._lanes: list[Lane] = []
        self._runner: asyncio.Runner | None = None
        self._tasks: dict[Served, Lane] = {}
        self._told: set[Served] = set()
        self._active: dict[str, Claim] = {}
        self._error: BaseException | None = None
        self.is_running = False

    def run(self, claim: Claim) -> None:
        """Execute the claim, and what else is ready in its queue, until nothing is."""
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._loop = self._runner.get_loop()
            self._loop.set_task_factory(make_task)
        self._lanes, self.is_running = self._make_lanes(claim.queue), True
        try:
            self._runner.run(self._serve(claim))
        finally:
            self.is_running = False
            self._leave()
        if self._error:
            raise self._error

    def _leave(self) -> None:
        """Give back the lanes that were used, whatever has happened; the drainer's own is its own affair."""
        used = [lane for lane in self._lanes[1:] if lane.slot.read()]
        for lane in used:
            lane.slot.clear()
        for lane in used:
            lane.leave()

    def interrupt(self) -> None:
        """Stop what the supervisor has asked to stop; called by a signal, whatever is running."""
        self._loop.call_soon_threadsafe(self._cancel_stopped)
        task = asyncio.current_task(self._loop)
        if task in self._tasks and task not in self._told:
            try:
                self._tasks[task].executor.stop_if_asked()  # it blocks the loop
            except Stopped:
                self._told.add(task)
                raise

    def _cancel_stopped(self) -> None:
        """Each is told once: what it does to clean up is not interrupted by the signals that the others get."""
        for task, lane in self._tasks.items():
            if lane.slot.is_stopped and task not in self._told:
                self._told.add(task)
                task.cancel()

    # --- filling the loop ---------------------------------------------------------------------

    async def _serve(self, claim: Claim) -> None:
        self._line, self._left, self._error, self._ask_at = asyncio.Lock(), asyncio.Event(), None, 0.0
        own, *free = self._lanes
        most = len(free)
        self._start(own, claim)
        while self._tasks:
            while len(self._tasks) < most and self._is_open() and self._ask(free[-1]):
                free.pop()
            ended, _ = await asyncio.wait(self._tasks, timeout=ASK_S, return_when=asyncio.FIRST_COMPLETED)
            free += [lane for task in ended if (lane := self._go_on(task)) and lane is not own]
        await _cancel_leftovers()

    def _make_lanes(self, queue: str) -> list[Lane]:
        """The drainer's own, for its first claim, and one for each step at a time."""
        _, worker, process = self._own.name.split("|")
        lanes = []
        for number in range(concurrency(queue) + 1):
            slot = self._own.slots.slot(self._index, number)
            executor = self._own.executor.on_loop(slot)
            lane = replace(self._own, slot=slot, executor=executor, door=self._door, is_alone=self._is_empty)
            name = f"{queue}|{worker}|{process}/{number}"
            lanes.append(replace(lane, name=name) if number else replace(lane, is_for_one=True))
        return lanes

    def _is_open(self) -> bool:
        is_closed = self._own.is_closing or self._error is not None or self._line.locked()
        return not is_closed and time.monotonic() >= self._ask_at

    def _ask(self, lane: Lane) -> bool:
        """Claim one more step; True if there was one."""
        try:
            more, claim = lane.claim()
        except ServerError as error:
            self._error = error
            return False
        if claim is None:
            lane.idle()
            self._ask_at = 0.0 if more else time.monotonic() + ASK_S
            return False
        self._start(lane, claim)
        return True

    def _start(self, lane: Lane, claim: Claim) -> None:
        lane.slot.hold(lane.name, claim.token, claim.run)  # now: a stop of the lane's last claim is not this one's
        self._tasks[asyncio.Task(lane.serve(claim), loop=self._loop)] = lane

    def _go_on(self, task: Served) -> Lane | None:
        """A step has ended: start the next in its lane, or give the lane back. After an error the others may end."""
        lane = self._tasks.pop(task)
        self._told.discard(task)
        if task.cancelled():  # it was stopped before it began
            lane.leave()
            lane.idle()
            return lane
        self._error = self._error or task.exception()
        _, claim = (False, None) if task.exception() else task.result()
        if claim is not None:
            self._start(lane, claim)
            return None
        lane.idle()
        return lane

    # --- who may run beside whom ---------------------------------------------------------------

    @asynccontextmanager
    async def _door(self, claim: Claim) -> AsyncIterator[None]:
        """Wait, in line, until the claim may run beside the others."""
        async with self._line:
            while self._active and not self._fits(claim):
                self._left.clear()
                await self._left.wait()
            self._active[claim.token] = claim
        try:
            yield
        finally:
            del self._active[claim.token]
            self._left.set()

    def _is_empty(self) -> bool:
        return not self._active and not self._line.locked()

    def _fits(self, claim: Claim) -> bool:
        """A step under which a process died runs alone, lest it take others with it; so does one of another place."""
        is_suspected = any(unit.losses for other in (claim, *self._active.values()) for unit in other.units)
        return not is_suspected and self._own.surroundings.are_those_of(claim.run)


async def _cancel_leftovers() -> None:
    """What steps have started and left behind ends with the last of them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
