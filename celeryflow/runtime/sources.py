"""Where a Run's events, results and logs come from: a deployment, or a run in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from msgspec.structs import replace

from celeryflow.engine.link import Link
from celeryflow.engine.read import Reader
from celeryflow.errors import IntegrityError, ResumeConflictError, RunError, ServerError
from celeryflow.graph.model import Event, Graph, LogLine, Node
from celeryflow.runtime.inline import Inline
from celeryflow.runtime.remains import find_rest
from celeryflow.runtime.reuse.explain import Explanation, explain
from celeryflow.runtime.session import Session
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.unserved import misfits, unserved
from celeryflow.store import events
from celeryflow.store.generations import begin, expanded_items
from celeryflow.values.functions import unpack_function
from celeryflow.values.manifest import Part
from celeryflow.values.vault import PART, Pointer, Vault

LOOK_S, QUIET_S = 0.5, 2.0

resumed: dict[str, int] = {}
"""The generations that this process has begun, by run: whoever holds such a run knows that it is not over."""


class Source(Protocol):
    """What a Run reads."""

    graph: Graph
    result: Pointer
    vault: Vault
    reader: Reader
    base: str

    def follow(self, after: int, wait_s: float, at: float | None = None) -> list[Event]:
        """Events after that number, waiting for one; from the first on where that number was not of the time `at`."""

    def logs(self) -> Iterable[LogLine]:
        """Captured output."""

    def tail(self, most: int, after: str = "") -> tuple[list[LogLine], str]:
        """The latest lines of output, `most` at most and after that place alone; and the place of the last one."""

    def cancel(self, reason: str) -> None:
        """End the run."""

    def is_at_work(self) -> bool:
        """Whether a worker still does something of the run."""

    def has_workers(self) -> bool:
        """Whether anybody could carry the run on."""

    def resume(self, snapshot: Snapshot) -> None:
        """Begin the next generation."""

    def function(self, digest: str) -> Callable[..., Any]:
        """The function that ran."""

    def explain(self, snapshot: Snapshot, step: str) -> Explanation:
        """What made a step run."""

    def unserved(self, nodes: Mapping[int, Node]) -> dict[str, list[str]]:
        """Queues in which steps are ready that no worker serves, and those steps."""

    def misfits(self) -> str:
        """What to say of workers that there are, and that do not serve them because of their versions."""


def with_parts(link: Link, run: str, found: list[Event]) -> list[Event]:
    """Events with the nodes that they say were added, verified."""
    firsts = [event.part for event in found if event.part >= 0]
    if not firsts:
        return found
    records = dict(zip(firsts, link.store.parts(run, firsts), strict=True))
    return [replace(e, nodes=_nodes(link, run, e.part, records[e.part])) if e.part >= 0 else e for e in found]


def _nodes(link: Link, run: str, first: int, record: bytes | None) -> tuple[Node, ...]:
    if record is None:
        raise IntegrityError(f"run {run!r} has lost the record of its steps from {first} on.")
    return link.vault.open_as(PART, Part, record, (run, first)).nodes


class StoredSource:
    """A run on a server."""

    def __init__(
        self, session: Session, run: str, graph: Graph, result: Pointer, pool: str = "", base: str = ""
    ) -> None:
        self.session, self.run, self.graph, self.result, self.pool = session, run, graph, result, pool
        self.base = base
        self.vault = session.link.vault
        self.reader = Reader(session.link.store, self.vault, run)
        self._checked_at = time.monotonic()
        self._unserved: dict[str, list[str]] = {}
        self._looked_at = float("-inf")

    def follow(self, after: int, wait_s: float, at: float | None = None) -> list[Event]:
        """As of Source."""
        found = with_parts(self.session.link, self.run, self._follow(after, wait_s, at))
        if not found and wait_s > 0:
            self._look_around()
        return found

    def _follow(self, after: int, wait_s: float, at: float | None) -> list[Event]:
        store = self.session.link.store
        found = events.follow(store, self.run, after, wait_s, at)
        if found or (self.graph.timeout_s is None and self.graph.deadline_s is None):
            return found
        store.end_late()
        return events.follow(store, self.run, after, 0, at)

    def _look_around(self) -> None:
        """Nothing happens: see that somebody could still make it happen."""
        self.session.check()
        if time.monotonic() - self._checked_at > QUIET_S:
            self.session.link.store.check_room()
            self._checked_at = time.monotonic()

    def logs(self) -> Iterable[LogLine]:
        """As of Source."""
        return events.read_logs(self.session.link.store, self.run)

    def tail(self, most: int, after: str = "") -> tuple[list[LogLine], str]:
        """As of Source."""
        return events.tail_logs(self.session.link.store, self.run, most, after)

    def cancel(self, reason: str) -> None:
        """As of Source."""
        self.session.link.store.cancel(self.run, reason)

    def is_at_work(self) -> bool:
        """As of Source."""
        store = self.session.link.store
        return any(store.held_claim(drainer)[1] == self.run for drainer in store.drainers())

    def resume(self, snapshot: Snapshot) -> None:
        """As of Source."""
        store = self.session.link.store
        rest = find_rest(snapshot, self.reader, expanded_items(store, self.run))
        answer = begin(store, self.run, snapshot.generation, rest, self.session.owner)
        if answer != "resumed":
            what = "is still running" if answer == "running" else "was resumed by somebody else at this moment"
            raise ResumeConflictError(
                f"run {self.run!r} {what}. Wait for it with run.wait(), or end it with run.cancel()."
            )
        resumed[self.run] = snapshot.generation + 1

    def explain(self, snapshot: Snapshot, step: str) -> Explanation:
        """As of Source."""
        return explain(self.session.link, snapshot, step)

    def has_workers(self) -> bool:
        """As of Source."""
        store = self.session.link.store
        return b"parked" not in store.client.hkeys(store.keys.run(self.run, "meta")) and bool(store.live_workers())

    def function(self, digest: str) -> Callable[..., Any]:
        """As of Source."""
        data = self.session.link.store.get_code(digest)
        if data is None:
            raise IntegrityError(f"the code {digest[:12]} of run {self.run!r} is no longer on the server.")
        return unpack_function(data, digest)[0]

    def unserved(self, nodes: Mapping[int, Node]) -> dict[str, list[str]]:
        """As of Source; looked up twice a second at most. The embedded pool serves every queue, or is about to."""
        runtime, is_mine = self.session.runtime, self.pool == self.session.link.settings.pool
        if runtime is not None and is_mine and runtime.has_pool():
            return {}
        if time.monotonic() - self._looked_at > LOOK_S:
            with suppress(ServerError):
                self._unserved = unserved(self.session.link.store, self.run, nodes, self.pool)
            self._looked_at = time.monotonic()
        return self._unserved

    def misfits(self) -> str:
        """As of Source."""
        with suppress(ServerError):
            return misfits(self.session.link.store, self.pool) if self._unserved else ""
        return ""


class InlineSource:
    """A run that ended in this process."""

    base = ""

    def __init__(self, inline: Inline) -> None:
        self.inline = inline  # holds the folder of its blobs
        self.graph, self.result, self.vault = inline.graph, inline.result, inline.vault
        self.reader = inline.reader

    def follow(self, after: int, wait_s: float, at: float | None = None) -> list[Event]:
        """As of Source."""
        return self.inline.memory.events[after:]

    def logs(self) -> Iterable[LogLine]:
        """As of Source."""
        return self.inline.memory.logs

    def tail(self, most: int, after: str = "") -> tuple[list[LogLine], str]:
        """As of Source."""
        return ([] if after else self.inline.memory.logs[-most:]), "end"

    def cancel(self, reason: str) -> None:
        """It has ended."""

    def is_at_work(self) -> bool:
        """It has ended."""
        return False

    def resume(self, snapshot: Snapshot) -> None:
        """It cannot: its values are of this process."""
        raise RunError("a run in this process cannot be resumed. Run it again with inline=True.")

    def explain(self, snapshot: Snapshot, step: str) -> Explanation:
        """As of Source."""
        return Explanation(f"{snapshot.record(step).node.name} ran in this process, which takes nothing over.")

    def has_workers(self) -> bool:
        """As of Source."""
        return True

    def function(self, digest: str) -> Callable[..., Any]:
        """As of Source."""
        return self.inline.function(digest)

    def unserved(self, nodes: Mapping[int, Node]) -> dict[str, list[str]]:
        """As of Source."""
        return {}

    def misfits(self) -> str:
        """None is missing."""
        return ""
