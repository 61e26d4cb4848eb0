"""The worker's main process: leases, hard limits, ended runs, dead children, tickets.

A thread, because the worker's own event loop stands still while the server is away. It looks at its children every
0.1 s and acts for those that cannot: it ends an attempt in the store first, and only then the process.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from celeryflow.engine import processes, registered
from celeryflow.engine.execute import Executor
from celeryflow.engine.lacks import here
from celeryflow.engine.link import Link
from celeryflow.engine.output import Place, Silent, ship
from celeryflow.engine.read import Reader
from celeryflow.engine.slots import NEVER, Doing, Slot, Slots
from celeryflow.engine.tasks import app_tasks
from celeryflow.errors import CeleryflowError, ServerError
from celeryflow.graph.checks import storable
from celeryflow.graph.model import Failure, OnError
from celeryflow.store.claims import STILL_RUNNING, Result
from celeryflow.values.vault import FAILURE, PYTHON
from celeryflow.version import __version__

TICK_S = 0.1
INTRODUCE_S = 2.0
SLEPT_S = 2.0
"""From one beat to the next: if it took longer, the machine slept, or the server was away."""

SOFT_STOP_S = 0.5
STRAYS_S = 1.0
LEAVE_S = 2.0
DUE = "!"
"""The group of what only supervisors serve."""

log = logging.getLogger(__name__)


class Supervisor:
    """Watches over one worker's pool.

    Parameters
    ----------
    pool : callable
        The pool's processes now, by their ids.
    send : callable
        Sends a ticket to the group's queue.
    facts : mapping, optional
        What else the store is to know of the worker.
    """

    def __init__(
        self,
        link: Link,
        slots: Slots,
        worker: str,
        outputs: Sequence[int],
        pool: Callable[[], Mapping[int, Any]],
        send: Callable[[str], None],
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.link, self.slots, self.worker, self.outputs = link, slots, worker, outputs
        self._pool, self._send = pool, send
        self._facts = {
            **(facts or {}),
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "directory": storable(here()),
            "started_at": f"{time.time():.3f}",
            "python": PYTHON,
            "version": __version__,
            "blobs": link.vault.blobs.place,
        }
        self._started: deque[Any] = deque(maxlen=64)
        self._processes: dict[int, Any] = {}
        self._strays_until = 0.0
        self._interrupted: dict[str, float] = {}
        self._killed: set[int] = set()
        self._stop_by = NEVER
        self._introduced_at = self._beat_at = time.monotonic()
        self._slept: dict[tuple[str, int, int], float] = {}
        self._trouble = ""
        self._thread = threading.Thread(target=self._loop, name="celeryflow-supervisor", daemon=True)
        self._done = threading.Event()

    def start(self) -> None:
        """Begin, after taking back what dead workers of this machine held."""
        self._thread.start()

    def note_start(self, process: Any) -> None:
        """Know a process of the pool from its start on: how it ends is asked of it, however soon that is."""
        self._started.append(process)

    def stop(self, grace_s: float) -> None:
        """Planned stop: drainers finish the item at hand, or hand it back uncharged after `grace_s` seconds."""
        self.slots.stop()
        self._stop_by = min(self._stop_by, time.monotonic() + grace_s)

    def leave(self) -> None:
        """The pool has ended: beat no more, and be counted on no more."""
        self._done.set()
        self._thread.join(LEAVE_S)
        with suppress(ServerError):
            self.link.store.dismiss_worker(self.worker)

    def _loop(self) -> None:
        is_first = True
        while not self._done.is_set():
            try:
                if is_first:
                    self._introduce()
                    self._reap_local_orphans()
                    is_first = False
                self._tick()
                self.link.store.await_nudge(self.link.settings.queues, TICK_S)
                self._trouble = ""
            except ServerError as error:
                self._tell(str(error))
                if time.monotonic() > self._stop_by:
                    self._abandon()
            except Exception as error:  # noqa: BLE001 - whatever a stray key or a full server leads to
                self._tell(f"{type(error).__name__}: {error}", exc_info=True)

    def _tell(self, trouble: str, **more: Any) -> None:
        """Say once what is in the way, though each beat runs into it again."""
        if trouble != self._trouble:
            log.warning("the supervisor goes on after: %s", trouble, **more)
        self._trouble = trouble
        self._done.wait(TICK_S)

    def _tell_of(self, doing: Doing, what: str) -> None:
        """Log what became of a step that did not end by itself."""
        step = ""
        with suppress(CeleryflowError):
            step = Reader(self.link.store, self.link.vault, doing.run).call(doing.node).step if doing.node >= 0 else ""
        place = {"run": doing.run, "step": step, "index": doing.index if doing.index >= 0 else None}
        log.warning("step %r of run %r %s", step, doing.run, what, extra=place)

    def _abandon(self) -> None:
        """A planned stop with the server away: what runs cannot be handed back, and is when its lease has run out."""
        for pid in self._pool():
            self._kill(pid)

    def _introduce(self) -> None:
        """Say who this is, now and then: a server that lost its data, or a day, forgets it."""
        self._introduced_at = time.monotonic()
        facts = {**self._facts, "slots": str(self.slots.count), "tasks": "\n".join(app_tasks())}
        facts["steps"] = "\n".join(registered.known()) if registered.is_begun() else "*"
        self._queues = "" if self.slots.is_stopping else self.link.settings.queues
        self.link.store.introduce_worker(self.worker, {**facts, "queues": self._queues})

    def _tick(self) -> None:
        busy = self.slots.busy()
        dead = {doing.pid for doing in busy.values() if not processes.is_alive(doing.pid)}
        if dead:
            busy = self.slots.busy()  # they may have begun something after the first look
        self._note_sleep([*busy.values()])
        pids, started = {doing.pid for doing in busy.values()}, Counter(d.pid for d in busy.values() if d.node >= 0)
        pool = self._pool()
        known = {**self._processes, **{process.pid: process for process in [*self._started]}, **pool}
        self._processes = {pid: found for pid, found in known.items() if pid in pids | {*pool}}
        for (index, lane), doing in [*busy.items()]:
            if doing.pid in dead:
                self._bury(index, lane, doing, is_alone=started[doing.pid] <= 1)
                del busy[index, lane]
        silent = {pid for pid in pids - dead if processes.is_paused(pid)}
        alive = [doing.drainer for doing in busy.values() if doing.pid not in silent]
        work = {f"{doing.run}|{doing.node}" for doing in busy.values() if doing.run}
        # A worker that stops has no slot to offer beyond those that it still uses.
        mine = f"{self.link.settings.queues}|"
        slots = sum(name.startswith(mine) for name in alive) if self.slots.is_stopping else self.slots.count
        if self.slots.is_stopping and self._queues:
            self._introduce()
        beat = self.link.store.renew(self.worker, self.link.settings.queues, slots, alive, work)
        if beat.due:
            self._serve_due()
        for (index, lane), doing in busy.items():
            self._ship(index, lane, doing)
            self._check(self.slots.slot(index, lane), doing, beat.over)
        self._killed &= pids - dead
        held = {doing.token for doing in busy.values()}
        self._interrupted = {token: since for token, since in self._interrupted.items() if token in held}
        for drainer in beat.expired:
            if place_of(drainer):
                self._reap_unseen(drainer, "its worker was silent for longer than its lease")
            else:
                log.warning("dropped %.200r, which is no drainer, from the leases", drainer)
                self.link.store.drop_lease(drainer)
        if not self.slots.is_stopping:
            for ticket in beat.tickets:
                self._send(ticket)
        if dead:
            self._strays_until = time.monotonic() + STRAYS_S
        if time.monotonic() < self._strays_until:
            processes.end_strays(pool)
        processes.reap_orphans({*self._pool()})
        if time.monotonic() - self._introduced_at > INTRODUCE_S:
            self._introduce()

    def _note_sleep(self, busy: Sequence[Doing]) -> None:
        """Limits of steps are of time awake, and looked at as of now: a sleep within this beat is noted by the next."""
        beat_at, self._beat_at = self._beat_at, time.monotonic()
        slept_s = self._beat_at - beat_at if self._beat_at - beat_at > SLEPT_S else 0.0
        items = ((doing.token, doing.node, doing.index) for doing in busy)
        self._slept = {item: self._slept.get(item, 0.0) + slept_s for item in items}

    def _check(self, slot: Slot, doing: Doing, over: Sequence[str]) -> None:
        """End what must not go on: past its limit, of a run that is over, or in the way of a planned stop."""
        if not doing.token:
            return
        if doing.token in self._interrupted:
            self._finish_stop(slot, doing)
        elif f"{doing.run}|{doing.node}" in over:
            self._stop(slot, doing)
        elif self._beat_at > doing.deadline + self._slept.get((doing.token, doing.node, doing.index), 0.0):
            self._time_out(slot, doing)
        elif 0 < doing.memory_limit_bytes < (used := processes.memory_bytes(doing.pid)):
            self._end_large(slot, doing, used)
        elif time.monotonic() > self._stop_by:
            self.link.store.release(doing.drainer)
            self._stop(slot, doing)
            self._tell_of(doing, "was handed back: the worker was told to stop")

    def _time_out(self, slot: Slot, doing: Doing) -> None:
        message = f"ran longer than its timeout_s of {doing.timeout_s:g} s"
        if self._fail(doing, "timeout", "StepTimeoutError", message, doing.retry_delay_s, (doing.timeout_s,)):
            self._stop(slot, doing)
            self._tell_of(doing, message)

    def _end_large(self, slot: Slot, doing: Doing, used: int) -> None:
        """Kill the process at once: only that gives all of the memory back, to the next step as to the machine."""
        limit = doing.memory_limit_bytes
        message = f"held {used / 2**20:.1f} MiB, over its memory_limit_bytes of {limit} ({limit / 2**20:.1f} MiB)"
        is_failed = self._fail(doing, "memory", "StepMemoryError", message, doing.memory_retry_delay_s)
        if is_failed and _does_still(slot, doing):
            self._kill(doing.pid)
            self._tell_of(doing, message)

    def _fail(
        self, doing: Doing, kind: str, error: str, message: str, delay_s: float, durations_s: tuple[float, ...] = ()
    ) -> bool:
        """End an attempt in the store; False if it has ended by itself."""
        failure = Failure(kind=kind, error=error, message=message, attempt=doing.attempt, worker=self._label(doing.pid))
        record = self.link.vault.seal(FAILURE, (doing.run, doing.node, doing.index), failure)
        will_retry = delay_s >= 0
        result = Result(
            node=doing.node,
            start=doing.index,
            outcome="retry" if will_retry else self._failed_outcome(doing.run, doing.node),
            attempt=doing.attempt,
            kind=kind,
            error=f"{error}: {message}",
            delay_s=max(0.0, delay_s),
            record=record,
            durations_s=durations_s,
        )
        answer, _, _ = self.link.store.commit(
            doing.drainer, doing.token, STILL_RUNNING, self._label(doing.pid), [result]
        )
        return answer == "committed"

    def _stop(self, slot: Slot, doing: Doing) -> None:
        """Interrupt a process that still does what was seen; it has 0.5 s to clean up."""
        if _does_still(slot, doing):
            self._interrupted[doing.token] = time.monotonic()
            slot.stop(doing.token)
            with suppress(ProcessLookupError):
                os.kill(doing.pid, signal.SIGUSR1)

    def _finish_stop(self, slot: Slot, doing: Doing) -> None:
        """It was interrupted; if it still does the same, all else that the process does is handed back uncharged."""
        is_late = self._beat_at - self._interrupted[doing.token] > SOFT_STOP_S
        if is_late and doing.pid not in self._killed and _does_still(slot, doing):
            self._kill(doing.pid)
            self._tell_of(doing, f"did not stop within {SOFT_STOP_S:g} s: its process {doing.pid} was killed")

    def _kill(self, pid: int) -> None:
        self._killed.add(pid)
        processes.kill_tree(pid)

    def _serve_due(self) -> None:
        """Gathers whose deadline has come go on at once, though every process is busy: no code of the user's runs."""
        _, at, pool = self.link.settings.queues.rpartition("@")
        store, name = self.link.store, f"{DUE}{at}{pool if at else ''}|{self.worker}|{os.getpid()}-due"
        executor = Executor(self.link, Slots(1).slot(0), Silent(), self.worker)
        try:
            _, claim = store.claim(name, secrets.token_hex(16), self.worker)
            while claim is not None:
                results = executor.run(claim)
                _, _, claim = store.commit(name, claim.token, secrets.token_hex(16), self.worker, results)
        finally:
            store.release(name)

    def _bury(self, index: int, lane: int, doing: Doing, is_alone: bool) -> None:
        """A child died: a claim of it goes back, and the item that it had started is charged."""
        planned = doing.token in self._interrupted or doing.pid in self._killed
        self._ship(index, lane, doing, is_over=True)
        if planned:
            self.link.store.release(doing.drainer)
        else:
            how = processes.how_it_ended(self._processes.get(doing.pid))
            self._reap(doing, f"worker process {doing.pid} {how}", is_alone)
            self._tell_of(doing, f"ended with its process: {doing.pid} {how}")
        self.slots.slot(index, lane).clear()

    def _ship(self, index: int, lane: int, doing: Doing, is_over: bool = False) -> None:
        """Output goes to the log while a step runs, and whole before its end is told."""
        slot, file, place = self.slots.slot(index), self.outputs[index], _place(doing)

        def is_still_there() -> bool:
            now = self.slots.slot(index, lane).read()
            return is_over or (now is not None and _place(now) == place)

        if is_over or os.fstat(file).st_size > slot.shipped.size:
            ship(file, slot, self.link.store, place, self._label(doing.pid), is_over, is_still_there)

    def _reap_unseen(self, drainer: str, reason: str) -> None:
        """Nobody saw what it did: what had started is known only where the claim has a single item."""
        token, run, units = self.link.store.held_claim(drainer)
        started = (units[0][0], units[0][1]) if len(units) == 1 and units[0][2] == 1 else (-1, -1)
        doing = Doing(int(drainer.rpartition("|")[2].partition("-")[0]), drainer, token, run, *started)
        self._reap(doing, reason)

    def _reap(self, doing: Doing, reason: str, is_alone: bool = True) -> None:
        """Take a claim back. An item cannot fail for a death in company: it runs alone the next time."""
        token, run, _ = self.link.store.held_claim(doing.drainer)
        is_same = token == doing.token  # else it died between two claims
        started = (doing.node, doing.index) if is_same else (-1, -1)
        worker = f"{doing.drainer.split('|')[1].partition(':')[0]}:{doing.pid}"
        record, outcome = b"", "failure"
        if started[0] >= 0:
            outcome = self._failed_outcome(run, started[0])
            failure = Failure(
                kind="poisoned",
                error="WorkerLost",
                message=f"{reason} while running it, more often than max_worker_losses allows",
                attempt=doing.attempt,
                worker=worker,
            )
            record = self.link.vault.seal(FAILURE, (run, *started), failure) if is_alone else b""
        self.link.store.reap(doing.drainer, token, reason, worker, started, doing.attempt, record, outcome)

    def _failed_outcome(self, run: str, node: int) -> str:
        """What a failed item of the node does to its map."""
        call = Reader(self.link.store, self.link.vault, run).call(node)
        return "failure" if call.on_error is OnError.RAISE else "absorbed"

    def _reap_local_orphans(self) -> None:
        """Take back what workers of this machine held that are dead: no need to wait for their leases."""
        for drainer in self.link.store.drainers():
            where, pid = place_of(drainer) or ("", 0)
            if where == socket.gethostname() and not processes.is_alive(pid):
                self._reap_unseen(drainer, f"its worker {where}:{pid} died")

    def _label(self, pid: int) -> str:
        return f"{socket.gethostname()}:{pid}"


def _does_still(slot: Slot, doing: Doing) -> bool:
    """Whether a process has not come to the end of what it was seen at."""
    now = slot.read()
    return now is not None and (now.pid, now.token) == (doing.pid, doing.token)


def _place(doing: Doing) -> Place:
    return Place(doing.run, doing.node, doing.index, doing.attempt) if doing.node >= 0 else Place()


def place_of(drainer: str) -> tuple[str, int] | None:
    """Host and main process of a drainer's worker; None of a name that no drainer has."""
    found = re.fullmatch(r"[^|]+\|([^|]*):(\d+)\|\d+-.*", drainer)
    return (found[1], int(found[2])) if found else None
