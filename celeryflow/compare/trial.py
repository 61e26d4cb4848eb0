"""One trial: an algorithm on an item, its scores, time and memory. It runs in a worker, or here."""

from __future__ import annotations

import copy
import inspect
import math
import numbers
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

from celeryflow.compare.crossval import cut
from celeryflow.compare.measure import limited, measured, seeded
from celeryflow.errors import StepTimeoutError

_IMMUTABLE = (int, float, bool, str, bytes, complex, type(None))

NOT_A_NUMBER = "not a number but"
"""What the error of a trial says whose metric gave something else."""


class Row(NamedTuple):
    """What a trial gave: seconds since 1970 when it began, its time and memory, a score a metric, and its error."""

    started_at: float
    latency_s: float
    peak_bytes: float
    scores: tuple[float, ...]
    error: str = ""


class Trial:
    """Runs trials of one comparison; a step of a run, called once a trial.

    Parameters
    ----------
    algorithms : sequence of (str, callable)
        Names and ``item -> output``.
    metrics : sequence of (str, callable)
        Names and ``(output, item) -> float``, or ``(output, truth)`` where there is a truth.
    truth : callable, optional
        Gives the truth of an item, where each item does not bring its own.
    make : callable, optional
        Makes an item of a seed, where items are made.
    warmup : int
        Calls of each algorithm in each process before the first that counts.
    timeout_s : float, optional
        A call that took longer has failed.
    has_truth : bool
        Whether items bring their truth.
    is_inline : bool
        Whether no worker stops a call that takes too long.
    """

    def __init__(
        self,
        algorithms: Sequence[tuple[str, Callable[..., Any]]],
        metrics: Sequence[tuple[str, Callable[..., Any]]],
        truth: Callable[..., Any] | None = None,
        make: Callable[..., Any] | None = None,
        warmup: int = 1,
        timeout_s: float | None = None,
        has_truth: bool = False,
        is_inline: bool = False,
    ) -> None:
        self.algorithms, self.metrics = tuple(algorithms), tuple(metrics)
        self.truth, self.make, self.warmup, self.timeout_s = truth, make, warmup, timeout_s
        self.has_truth, self.is_inline = has_truth, is_inline
        self._warm: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_warm": set()}

    def __call__(self, algorithm: int, item: Any, seed: int, table: Any = None) -> Row:
        """One trial; what the algorithm raises is raised.

        Parameters
        ----------
        algorithm : int
            Its number.
        item : Any
            What it gets; ``(item, truth)`` where items bring their truth.
        seed : int
            Of the generators that the process shares.
        table : (X, y), optional
            Of a cross-validation, whose items are folds of it.
        """
        began = time.time()
        item, truth = item if self.has_truth else (item, None)
        with seeded(seed):
            if self.make is not None:
                item = self.make(item)
            if table is not None:
                item, truth = cut(item, table)
            function = self.algorithms[algorithm][1]
            if algorithm not in self._warm:
                self._warm_up(algorithm, function, item)
            mine = copied(item)
            with self._limit():
                found = measured(lambda: function(mine))
            self._check_time(found.seconds)
            if self.truth is not None:
                truth = self.truth(item)
            against = truth if self.has_truth or self.truth is not None or table is not None else item
            scores, error = self._score(found.output, against)
        return Row(began, found.seconds, found.peak_bytes, scores, error)

    def _warm_up(self, algorithm: int, function: Callable[..., Any], item: Any) -> None:
        self._warm.add(algorithm)
        for _ in range(self.warmup):
            try:
                with self._limit():
                    function(copied(item))
            except Exception:  # noqa: BLE001 - the trial itself will say so
                return

    def _limit(self) -> AbstractContextManager[None]:
        return limited(self.timeout_s) if self.is_inline and self.timeout_s is not None else nullcontext()

    def _check_time(self, seconds: float) -> None:
        if self.timeout_s is not None and seconds > self.timeout_s:
            raise StepTimeoutError(f"took {seconds:.3g} s, longer than timeout_s={self.timeout_s:g}")

    def _score(self, output: Any, against: Any) -> tuple[tuple[float, ...], str]:
        scores, error = [], ""
        for name, metric in self.metrics:
            try:
                scores.append(number(scored(metric, output, against)))
            except Exception as found:  # noqa: BLE001 - a failure of the trial
                scores.append(math.nan)
                error = error or f"metric {name!r}: {type(found).__name__}: {found}"
            else:
                if not math.isfinite(scores[-1]):
                    error = error or f"metric {name!r} is {scores[-1]}"
        return tuple(scores), error


def scored(metric: Callable[..., Any], output: Any, against: Any) -> Any:
    """What a metric gives; one whose first parameter is ``y_true``, as scikit-learn's, gets the truth first."""
    return metric(against, output) if is_truth_first(metric) else metric(output, against)


def is_truth_first(metric: Callable[..., Any]) -> bool:
    """Whether a metric takes the truth before the output, by the name of its first parameter."""
    try:
        return _is_truth_first(metric)
    except TypeError:  # unhashable
        return False


@cache
def _is_truth_first(metric: Callable[..., Any]) -> bool:
    try:
        return next(iter(inspect.signature(metric).parameters), "") == "y_true"
    except (TypeError, ValueError):
        return False


def number(value: Any) -> float:
    """A metric's value as a float.

    Raises
    ------
    TypeError
        If it is no real number: text, None, an array of several.
    """
    if isinstance(value, numbers.Real):
        return float(value)
    if getattr(value, "ndim", None) == 0 and getattr(value, "dtype", None) is not None and value.dtype.kind in "biuf":
        return float(value)
    raise TypeError(f"{NOT_A_NUMBER} {type(value).__name__}")


def copied(item: Any) -> Any:
    """An item of its own for one call, so that what an algorithm does to it nobody else sees."""
    if isinstance(item, _IMMUTABLE):
        return item
    try:
        return pickle.loads(pickle.dumps(item, 5))  # noqa: S301 - a copy of what is here
    except Exception:  # noqa: BLE001 - whatever a user's class raises
        return copy.deepcopy(item)
