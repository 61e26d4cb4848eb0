"""A drainer: claim, execute, commit until nothing is ready, then linger and give the slot back."""

from __future__ import annotations

import os
import secrets

from celeryflow.engine import processes
from celeryflow.engine.event_loop import EventLoop, concurrency
from celeryflow.engine.execute import Executor, finish
from celeryflow.engine.lane import Lane
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture
from celeryflow.engine.slots import Slots
from celeryflow.engine.surroundings import Surroundings
from celeryflow.store.claims import Claim

LINGER_S = 0.2


class Drainer:
    """Drains the queues of its worker in one pool process."""

    def __init__(self, link: Link, slots: Slots, index: int, output: int, worker: str, label: str) -> None:
        self.link, self.slots = link, slots
        slot = slots.slot(index)
        self.capture = Capture(output, slot, label)
        surroundings = Surroundings(link)
        self.lane = Lane(
            name=f"{link.settings.queues}|{worker}|{os.getpid()}-{secrets.token_hex(4)}",
            label=label,
            link=link,
            slot=slot,
            executor=Executor(link, slot, self.capture, label, lack=surroundings.lack),
            capture=self.capture,
            surroundings=surroundings,
            slots=slots,
        )
        self.event_loop = EventLoop(self.lane, index)

    def drain(self, ticket: str) -> None:
        """Work until nothing is ready for a while."""
        with self.capture:
            try:
                self._work(ticket)
            finally:
                if self.lane.is_spent:
                    self.lane.idle()  # until the next process is there to take tickets
                else:
                    self.lane.leave()
                    processes.reap_orphans(set())

    def interrupt(self) -> None:
        """Stop what the supervisor has asked to stop; called by a signal."""
        if self.event_loop.is_running:
            self.event_loop.interrupt()
        else:
            self.lane.executor.stop_if_asked()

    def _work(self, ticket: str) -> None:
        if self.slots.is_stopping:  # the ticket was on its way
            return
        more, claim = self.lane.claim(ticket)
        while not self.lane.is_closing:
            if claim is not None:
                more, claim = self._serve(claim)
            elif more or self._linger():
                more, claim = self.lane.claim()
            else:
                return

    def _linger(self) -> bool:
        """Wait a moment for more work, with the lease kept alive."""
        self.lane.idle()
        return self.link.store.await_wake(self.lane.name, LINGER_S)

    def _serve(self, claim: Claim) -> tuple[bool, Claim | None]:
        if concurrency(claim.queue):
            self.event_loop.run(claim)
            return True, None
        return finish(self.lane.serve(claim))
