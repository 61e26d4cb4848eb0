"""Every attempt of a run in columns: a chunk of a map is one entry, whatever its number of items."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import StrEnum

from celeryflow.graph.states import State

NAN = float("nan")
TOO_LATE = "its result came too late and was not stored"
SAME_COMMIT_S = 0.001
"""Events of one worker that are no further apart belong to one commit."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCESS = "success"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    WORKER_LOST = "worker_lost"
    CANCELLED = "cancelled"
    STALE = "stale"


STATES: tuple[State, ...] = tuple(State)
OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
STATE_CODE: dict[State, int] = {state: code for code, state in enumerate(STATES)}
OUTCOME_CODE: dict[Outcome, int] = {outcome: code for code, outcome in enumerate(OUTCOMES)}

_OUTCOME_OF_KIND = {
    "timeout": Outcome.TIMEOUT,
    "deadline": Outcome.TIMEOUT,
    "memory": Outcome.MEMORY,
    "poisoned": Outcome.WORKER_LOST,
    "cancelled": Outcome.CANCELLED,
}


def outcome_of(kind: str) -> Outcome:
    """How an attempt ended whose failure has this kind."""
    return _OUTCOME_OF_KIND.get(kind, Outcome.EXCEPTION)


class Words:
    """Strings by number, each kept once: a run has few workers and reasons, and many attempts."""

    __slots__ = ("_numbers", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._numbers: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """The number of `text`; 0 is the empty one."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


class AttemptLog:
    """Ended attempts in the order of their events.

    An entry covers the items ``range(start, start + count)`` of a node. `durations` lies flat beside
    the entries, one number for each item, so that all of it expands at once into rows.

    Attributes
    ----------
    node, start, count, attempt, generation : array of int
        What ran, and which attempt it was.
    worker, reason : array of int
        Numbers of `words`.
    claimed_at, started_at, finished_at : array of float
        Times in seconds since 1970 UTC; NaN where unknown. `started_at` is the first item's,
        `finished_at` the last one's.
    again_at : array of float
        When the items are ready again (after ``retrying`` or ``lost``), else NaN.
    outcome, state : array of int
        Codes of `Outcome`, and of the `State` that the items are in after it.
    durations : array of float
        Running time of each item in seconds; NaN where unknown.
    """

    def __init__(self) -> None:
        self.words = Words()
        self.node, self.start, self.count = array("q"), array("q"), array("q")
        self.attempt, self.generation = array("q"), array("q")
        self.worker, self.reason = array("q"), array("q")
        self.claimed_at, self.started_at = array("d"), array("d")
        self.finished_at, self.again_at = array("d"), array("d")
        self.outcome, self.state = array("b"), array("b")
        self.durations = array("d")
        self._commit = ("", NAN)
        self._earliest: list[float] = []

    def __len__(self) -> int:
        return len(self.node)

    def add(
        self,
        node: int,
        start: int,
        count: int,
        attempt: int,
        generation: int,
        worker: str,
        reason: str,
        claimed_at: float,
        earliest: float,
        at: float,
        again_at: float,
        outcome: Outcome,
        state: State,
        durations: Sequence[float] = (),
    ) -> int:
        """Append one entry and give its place.

        The items ran one after the other until the commit `at`, though not before `earliest`. Where
        `durations` has another length than `count`, they are unknown, and began then.
        """
        is_known = len(durations) == count
        spent = sum(durations) if is_known else 0.0
        self._join_commit(worker, at, spent, earliest)
        started_at = min(max(at - spent, earliest) if is_known else earliest, at)
        self.node.append(node)
        self.start.append(start)
        self.count.append(count)
        self.attempt.append(attempt)
        self.generation.append(generation)
        self.worker.append(self.words.number(worker))
        self.reason.append(self.words.number(reason))
        self.claimed_at.append(claimed_at)
        self.started_at.append(started_at)
        self.finished_at.append(min(started_at + spent, at) if is_known else at)
        self.again_at.append(again_at)
        self.outcome.append(OUTCOME_CODE[outcome])
        self.state.append(STATE_CODE[state])
        self.durations.extend(durations if is_known else (NAN,) * count)
        return len(self.node) - 1

    def latest(self, node: int, item: int) -> int:
        """Number of the latest attempt of an item; 1 where none has ended."""
        mine = (i for i in reversed(range(len(self))) if self.node[i] == node)
        return next((self.attempt[i] for i in mine if 0 <= item - self.start[i] < self.count[i]), 1)

    def refuse(self, node: int, item: int, worker: str) -> None:
        """Turn what was lost with this worker into what came too late."""
        lost, label = OUTCOME_CODE[Outcome.WORKER_LOST], self.words.number(worker)
        for entry in reversed(range(len(self))):
            is_here = self.node[entry] == node and 0 <= item - self.start[entry] < self.count[entry]
            if is_here and (self.worker[entry], self.outcome[entry]) == (label, lost):
                self.outcome[entry] = OUTCOME_CODE[Outcome.STALE]
                self.reason[entry] = self.words.number(f"{self.words.texts[self.reason[entry]]}; {TOO_LATE}")
                return

    def _join_commit(self, worker: str, at: float, spent: float, earliest: float) -> None:
        """Make room before a further entry of one commit: what a worker commits at once, it ran in turn."""
        if not worker or worker != self._commit[0] or not abs(at - self._commit[1]) < SAME_COMMIT_S:
            self._commit, self._earliest = (worker, at), [earliest]
            return
        first = len(self) - len(self._earliest)
        for entry, bound in enumerate(self._earliest, first):
            back = min(spent, max(0.0, self.started_at[entry] - bound))
            self.started_at[entry] -= back
            self.finished_at[entry] -= back
        self._earliest.append(earliest)


class MarkLog:
    """Items that ended without an attempt, skipped, failed from outside or taken over, in order."""

    def __init__(self) -> None:
        self.node, self.start, self.count = array("q"), array("q"), array("q")
        self.generation, self.state, self.reason = array("q"), array("b"), array("q")
        self.words = Words()

    def __len__(self) -> int:
        return len(self.node)

    def add(self, node: int, start: int, count: int, generation: int, state: State, reason: str) -> None:
        """Append one range of items, the state that they have now, and why."""
        self.node.append(node)
        self.start.append(start)
        self.count.append(count)
        self.generation.append(generation)
        self.state.append(STATE_CODE[state])
        self.reason.append(self.words.number(reason))
