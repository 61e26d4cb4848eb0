"""Tasks that wait for each other: the longest chain of them, and how long some workers would take."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from heapq import heappop, heappush
from math import fsum

import numpy as np
from numpy.typing import NDArray


class Schedule:
    """Tasks with their running times, and what waits for what: a graph without cycles.

    Parameters
    ----------
    duration_s : sequence of float
        Running time of each task in seconds, not negative. One of 0 needs no worker.
    before, after : array of int
        The edges: task ``after[i]`` waits for task ``before[i]``.

    Examples
    --------
    >>> import numpy as np
    >>> diamond = Schedule([1.0, 2.0, 3.0, 1.0], np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]))
    >>> diamond.critical_path, diamond.critical_path_s
    ([0, 2, 3], 5.0)
    >>> diamond.makespans((1, 2, 4))
    [7.0, 5.0, 5.0]
    """

    def __init__(self, duration_s: Sequence[float], before: NDArray[np.int64], after: NDArray[np.int64]) -> None:
        self.duration_s = [*map(float, duration_s)]
        size = len(self.duration_s)
        place = np.argsort(before, kind="stable")
        self._users: list[int] = after[place].tolist()
        self._first: list[int] = np.searchsorted(before[place], np.arange(size + 1)).tolist()
        self._inputs: list[int] = np.bincount(after, minlength=size).tolist()

    def _users_of(self, task: int) -> list[int]:
        return self._users[self._first[task] : self._first[task + 1]]

    @cached_property
    def _order(self) -> list[int]:
        """Every task after those that it waits for."""
        missing = self._inputs.copy()
        order = [task for task, inputs in enumerate(missing) if not inputs]
        for task in order:
            for user in self._users_of(task):
                missing[user] -= 1
                if not missing[user]:
                    order.append(user)
        return order

    @cached_property
    def _levels(self) -> list[float]:
        """Seconds from the start of each task to the end of the longest chain that begins with it."""
        levels = self.duration_s.copy()
        for task in reversed(self._order):
            levels[task] += max([levels[user] for user in self._users_of(task)], default=0.0)
        return levels

    @property
    def critical_path_s(self) -> float:
        """Length of the longest chain: what no number of workers makes shorter."""
        return max(self._levels, default=0.0)

    @cached_property
    def critical_path(self) -> list[int]:
        """The tasks of a longest chain, in order."""
        path, following = list[int](), self._order
        while following:
            task = max(following, key=self._levels.__getitem__)
            path.append(task)
            following = self._users_of(task)
        return path

    def makespans(self, workers: Sequence[int]) -> list[float]:
        """How long it takes with so many workers each, of which any can do any task, in seconds.

        By list scheduling: whenever a worker is free it takes, of the tasks that wait for nothing any more, the one
        with the longest chain of work behind it. With ``n`` workers that is at most ``work / n + (1 - 1 / n) * path``,
        and less than twice what the best schedule needs [1]_. Such a schedule may take longer with more workers [1]_;
        those too many are left idle then, so that more of them never take longer here.

        Parameters
        ----------
        workers : sequence of int
            Numbers of workers, rising, from 1.

        References
        ----------
        .. [1] R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17 (2), 1969, 416-429.
        """
        found: list[float] = []
        best, least = fsum(self.duration_s), self.critical_path_s
        for count in workers:
            if count > 1 and best > least:
                best = max(least, min(best, self._list_schedule(count)))
            found.append(best)
        return found

    @cached_property
    def _by_rank(self) -> list[int]:
        """The tasks, the one with the longest chain first."""
        return np.argsort(-np.array(self._levels), kind="stable").tolist()  # type: ignore[no-any-return]

    @cached_property
    def _rank(self) -> list[int]:
        rank = [0] * len(self._by_rank)
        for place, task in enumerate(self._by_rank):
            rank[task] = place
        return rank

    def _list_schedule(self, workers: int) -> float:
        missing, duration_s, rank = self._inputs.copy(), self.duration_s, self._rank
        ready: list[int] = []
        running: list[tuple[float, int]] = []
        now = 0.0

        def release(tasks: list[int]) -> None:
            """What waits for nothing any more is ready, or has ended already."""
            for task in tasks:
                if duration_s[task] > 0:
                    heappush(ready, rank[task])
                    continue
                for user in self._users_of(task):
                    missing[user] -= 1
                    if not missing[user]:
                        tasks.append(user)

        release([task for task, inputs in enumerate(missing) if not inputs])
        while ready or running:
            while ready and len(running) < workers:
                task = self._by_rank[heappop(ready)]
                heappush(running, (now + duration_s[task], task))
            now, task = heappop(running)
            ended = []
            for user in self._users_of(task):
                missing[user] -= 1
                if not missing[user]:
                    ended.append(user)
            release(ended)
        return now
