"""What came of the trials, as arrays: a place for each trial that has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from celeryflow.compare import scores
from celeryflow.compare.contrast import Floats
from celeryflow.compare.plan import Planned
from celeryflow.compare.trial import Row
from celeryflow.errors import StepFailedError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Results:
    """Trials that have ended, in the order of the plan; arrays of shape (trials,).

    Attributes
    ----------
    planned : sequence of Planned
        Which they were.
    values : array of float, shape (trials, metrics)
        NaN for a failure.
    latency_s, queue_wait_s, peak_bytes : array of float
        NaN for a failure, or where it could not be measured.
    errors : sequence of str
        Empty for a success.
    size : (items, algorithms)
        Of the whole comparison.
    """

    planned: Sequence[Planned]
    values: Floats
    latency_s: Floats
    queue_wait_s: Floats
    peak_bytes: Floats
    errors: Sequence[str]
    size: tuple[int, int]

    @property
    def items(self) -> Ints:
        """Number of each trial's item."""
        return np.array([trial.item for trial in self.planned], dtype=np.int64)

    @property
    def algorithms(self) -> Ints:
        """Number of each trial's algorithm."""
        return np.array([trial.algorithm for trial in self.planned], dtype=np.int64)

    @property
    def is_failed(self) -> npt.NDArray[np.bool_]:
        """Which trials failed."""
        return np.array([bool(error) for error in self.errors], dtype=bool)

    def scores(self, metric: int) -> Floats:
        """Scores of a metric, repeats averaged; shape (items, algorithms), NaN where there is none."""
        return scores.means(self.items, self.algorithms, self.values[:, metric], self.size)

    def has_trials(self) -> npt.NDArray[np.bool_]:
        """Where a trial has ended; shape (items, algorithms)."""
        found = np.zeros(self.size, dtype=bool)
        found[self.items, self.algorithms] = True
        return found


def collect(
    planned: Sequence[Planned],
    rows: Sequence[Row | BaseException | None],
    metrics: int,
    size: tuple[int, int],
    submitted_at: float,
    timeout_s: float | None = None,
) -> Results:
    """Results of rows as they came, None where a trial has not ended.

    Parameters
    ----------
    planned : sequence of Planned, shape (n,)
        All trials.
    rows : sequence, shape (n,)
        What each gave, or raised.
    metrics : int
        How many there are.
    size : (items, algorithms)
        Of the whole comparison.
    submitted_at : float
        Seconds since 1970, from which on every trial waited.
    timeout_s : float, optional
        What a call was allowed.
    """
    ended = [
        (trial, as_row(row, metrics, timeout_s)) for trial, row in zip(planned, rows, strict=True) if row is not None
    ]
    table = np.array([row[:3] for _, row in ended], dtype=np.float64).reshape(-1, 3)
    return Results(
        planned=[trial for trial, _ in ended],
        values=np.array([row.scores for _, row in ended], dtype=np.float64).reshape(-1, metrics),
        latency_s=table[:, 1],
        queue_wait_s=np.maximum(table[:, 0] - submitted_at, 0.0),
        peak_bytes=table[:, 2],
        errors=[row.error for _, row in ended],
        size=size,
    )


def as_row(found: Any, metrics: int, timeout_s: float | None = None) -> Row:
    """What a trial gave or raised, as a row."""
    if isinstance(found, BaseException):
        return Row(math.nan, math.nan, math.nan, (math.nan,) * metrics, error_text(found, timeout_s))
    row = Row(*found)
    return row._replace(scores=tuple(value if math.isfinite(value) else math.nan for value in row.scores))


def error_text(error: BaseException, timeout_s: float | None = None) -> str:
    """An exception in one line; what a worker stopped for its time says the limit of the comparison."""
    if isinstance(error, StepFailedError):
        if error.kind == "timeout" and timeout_s is not None:
            return f"StepTimeoutError: took longer than timeout_s={timeout_s:g}"
        return str(error.args[0]).partition("): ")[2] or str(error.args[0])
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
