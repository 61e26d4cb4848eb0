"""The items of a node that are under way: held by a worker, or waiting for another attempt."""

from __future__ import annotations

from typing import NamedTuple

from celeryflow.graph.states import State

LENGTH_ONLY = -1
"""Stands for the items of an attempt that only reads a map's length."""


class Claim(NamedTuple):
    """A range of items that a worker holds, and since when."""

    size: int
    attempt: int
    generation: int
    worker: str
    at: float


class OpenItems:
    """Claims by their first item, and the items that wait after a failed or lost attempt.

    Attributes
    ----------
    claims : dict of int to Claim
        No two of them share an item.
    waiting : dict of int to State
        ``retrying`` after an exception or limit, ``ready`` after the worker died.
    running, retrying : int
        How many items are claimed, and wait as ``retrying``.
    """

    __slots__ = ("claims", "retrying", "running", "waiting")

    def __init__(self) -> None:
        self.claims: dict[int, Claim] = {}
        self.waiting: dict[int, State] = {}
        self.running = self.retrying = 0

    def hold(self, start: int, claim: Claim) -> None:
        """Note that a worker took these items."""
        self.take(start, claim.size)
        self.claims[start] = claim
        self.running += claim.size if start != LENGTH_ONLY else 0

    def take(self, start: int, count: int) -> Claim | None:
        """Free items, claimed or waiting; gives the claim that held the first of them."""
        if self.waiting:
            self._stop_waiting(start, count)
        claim = self.claims.get(start)
        if claim is None or claim.size < count:
            return self._cut(start, start + count)
        del self.claims[start]
        if claim.size > count:
            self.claims[start + count] = claim._replace(size=claim.size - count)
        self.running -= count if start != LENGTH_ONLY else 0
        return claim

    def wait(self, start: int, count: int, state: State) -> None:
        """Note that these items wait for another attempt."""
        self.waiting.update(dict.fromkeys(range(start, start + count), state))
        self.retrying += count if state is State.RETRYING and start != LENGTH_ONLY else 0

    def _stop_waiting(self, start: int, count: int) -> None:
        for item in range(start, start + count):
            if self.waiting.pop(item, None) is State.RETRYING and item != LENGTH_ONLY:
                self.retrying -= 1

    def _cut(self, start: int, stop: int) -> Claim | None:
        """Free a range that is not the head of one claim: cut it out of every claim that it meets."""
        held: Claim | None = None
        for first, claim in list(self.claims.items()):
            last = first + claim.size
            if first == LENGTH_ONLY or last <= start or first >= stop:
                continue
            del self.claims[first]
            self.running -= min(last, stop) - max(first, start)
            held = claim if held is None or first <= start else held
            if first < start:
                self.claims[first] = claim._replace(size=start - first)
            if last > stop:
                self.claims[stop] = claim._replace(size=last - stop)
        return held
