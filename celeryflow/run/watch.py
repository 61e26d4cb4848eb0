"""A run as its views hear of it."""

from __future__ import annotations

from collections import defaultdict

from celeryflow.graph.model import Event, LogLine
from celeryflow.run.followed import Followed
from celeryflow.runtime.sources import Source

WAIT_S, LOG_LINES = 0.5, 500

_TOUCH_ALL = frozenset(("length", "expanded"))
"""A length goes on from map to map, and who adds a step tells it to all around."""


class Watch(Followed):
    """A run with a Snapshot of its own: the user's belongs to the thread that waits for it."""

    def __init__(self, run_id: str, source: Source) -> None:
        super().__init__(run_id, source)
        self._told = 0
        self._users: dict[int, list[int]] = defaultdict(list)
        for node in self.graph.nodes:
            for given in node.inputs:
                self._users[given.node].append(node.index)

    def listen(self, wait_s: float) -> list[Event]:
        """What has happened since the last look; of a run that is over nothing."""
        return [] if self.is_over else self.news(wait_s)

    def touched(self) -> set[int] | None:
        """The steps that may look otherwise than when this was asked last; None for all.

        Those of which something was heard, and what waits for them: it may be ready.
        """
        is_anew = len(self._events) < self._told
        fresh, self._told = self._events[self._told :], len(self._events)
        if is_anew or any(event.node < 0 or event.event in _TOUCH_ALL for event in fresh):
            return None
        heard = {event.node for event in fresh}
        return heard.union(*(self._users[node] for node in heard))

    def cancel(self) -> None:
        """End it."""
        self._source.cancel("by the user")

    def resume(self) -> None:
        """Run what did not succeed once more.

        Raises
        ------
        ResumeConflictError, RunError
            If somebody else has resumed it, or it ran in this process.
        """
        self._source.resume(self.snapshot())
        self.listen(WAIT_S)

    def details(self, node: int, item: int | None) -> str:
        """HTML of one step, or of one item of a map."""
        from celeryflow.run.details import details

        return details(self, node, item)

    def log(self, after: str) -> tuple[list[LogLine], str]:
        """The latest lines of output after that place, and the place of the last one."""
        return self._source.tail(LOG_LINES, after)
