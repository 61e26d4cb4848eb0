"""The one thread that follows a run while it is shown, however often that is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from celeryflow.errors import CeleryflowError
from celeryflow.graph.model import Event, Graph, LogLine
from celeryflow.runtime.snapshot.fold import Snapshot

WAIT_S, PERIOD_S = 0.1, 0.1
"""How long it waits for news before it looks at what else there is to do; and how long it lets them gather."""

SHARE_OF_A_CORE, LONGEST_S = 0.03, 3.0
"""Between two updates is so much time that they take only that share, but not more than that."""

_log = logging.getLogger(__name__)


class Shown(Protocol):
    """A run as its views hear of it. One thread alone calls all of it, but `cancel`."""

    id: str

    @property
    def graph(self) -> Graph:
        """What it runs."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and was not resumed here since."""

    @property
    def seen(self) -> Snapshot:
        """All that was known of it at the last look."""

    def snapshot(self) -> Snapshot:
        """All that is known of it now."""

    def listen(self, wait_s: float) -> list[Event]:
        """What has happened since the last look; of a run that is over nothing."""

    def touched(self) -> set[int] | None:
        """The steps that may look otherwise than when this was asked last; None for all."""

    def cancel(self) -> None:
        """End it. From any thread."""

    def resume(self) -> None:
        """Run what did not succeed once more."""

    def details(self, node: int, item: int | None) -> str:
        """HTML of one step, or of one item of a map."""

    def log(self, after: str) -> tuple[list[LogLine], str]:
        """Lines of output after that place, and the place of the last one."""


class Look(NamedTuple):
    """How a run stood at a time, which steps `touched` news since the look before, and why nothing more is heard."""

    snapshot: Snapshot
    now: float
    touched: set[int] | None = None
    trouble: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.snapshot.status.is_terminal


class Surface(Protocol):
    """Something that a run is shown on."""

    @property
    def tick_s(self) -> float:
        """After how long it wants to be shown the run again though nothing happened."""

    def show(self, look: Look) -> None:
        """Show the run as it is now."""


Task = Callable[[], None]


class Follower:
    """Follows a run for all that show it, in a thread that ends with the run, or with the last of them.

    What is to be done for a view, say on a click, is done by the same thread: nobody else touches the run's Snapshot,
    so there is nothing to lock. After the run's end a click, or a resume, starts the thread again.
    """

    def __init__(self, run: Shown) -> None:
        self.run = run
        self.surfaces: tuple[Surface, ...] = ()
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_at_work = False
        self._looked, self._settled = threading.Event(), threading.Event()
        self._due_at = self._next_at = 0.0
        self._has_news = False
        self._trouble = ""

    def add(self, *surfaces: Surface) -> None:
        """Show the run there from now on."""
        with self._lock:
            self.surfaces += surfaces
        self.do(self.show_soon)

    def remove(self, *surfaces: Surface) -> None:
        """Show it there no more."""
        with self._lock:
            self.surfaces = tuple(surface for surface in self.surfaces if surface not in surfaces)

    def do(self, task: Task) -> None:
        """Have the thread do this before anything else."""
        self._tasks.put(task)
        with self._lock:
            self._settled.clear()
            if not self._is_at_work:
                self._is_at_work = True
                threading.Thread(target=self._work, name=f"celeryflow-view-{self.run.id}", daemon=True).start()

    @property
    def has_given_up(self) -> bool:
        """Whether nothing more is heard of the run."""
        return bool(self._trouble)

    def looks_over(self, timeout_s: float) -> bool:
        """Whether the run is over, as far as is known in that time."""
        self._looked.wait(timeout_s)
        return self.run.is_over

    def settle(self, timeout_s: float) -> None:
        """Wait until the end of a run that is over, or nearly, is shown."""
        self.do(self.show_soon)
        self._settled.wait(timeout_s)

    def show_soon(self) -> None:
        """Show the run at the next turn, whether anything has happened or not. For tasks."""
        self._due_at = 0.0

    def _work(self) -> None:
        while not self._is_done():
            self._try(self._turn)

    def _try(self, do: Task) -> None:
        try:
            do()
        except CeleryflowError as error:
            self._trouble = str(error)
            self._try(self._show)
        except Exception:  # noqa: BLE001
            # A view that breaks must not break anything else, nor write a traceback under somebody's cell.
            _log.warning("run %s is no longer shown", self.run.id, exc_info=True)
            self.surfaces = ()

    def _is_done(self) -> bool:
        """Whether the thread may end; if so it counts as ended, and the next task starts another."""
        with self._lock:
            if not self._tasks.empty() or (self.surfaces and not self.run.is_over and not self._trouble):
                return False
            self._is_at_work = False
            self._settled.set()
            return True

    def _turn(self) -> None:
        while not self._tasks.empty():
            self._trouble = ""
            self._tasks.get()()
        is_due = time.monotonic() >= self._due_at
        heard = self.run.listen(0.0 if is_due else WAIT_S)
        self._has_news = self._has_news or bool(heard)
        if is_due or self.run.is_over or (self._has_news and time.monotonic() >= self._next_at):
            self._show()
        if not self.run.is_over:
            self._rest(PERIOD_S)

    def _show(self) -> None:
        """Show the run everywhere; and then not for so long that it takes a small share of a core."""
        began = time.thread_time()
        snapshot = self.run.seen if self._trouble else self.run.snapshot()
        look = Look(snapshot, time.time(), self.run.touched(), self._trouble)
        self._looked.set()
        for surface in self.surfaces:
            surface.show(look)
        self._has_news = False
        now, spent_s = time.monotonic(), time.thread_time() - began
        self._next_at = now + min(LONGEST_S, spent_s / SHARE_OF_A_CORE)
        self._due_at = max(self._next_at, now + min((surface.tick_s for surface in self.surfaces), default=0.0))

    def _rest(self, seconds: float) -> None:
        """Wait so long, or until there is something to do."""
        with suppress(Empty):
            self._tasks.get(timeout=seconds)()
