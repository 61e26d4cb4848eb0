"""What the trials gave, as arrays: a score for each item and algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from celeryflow.compare.contrast import Floats


def means(
    items: npt.NDArray[np.int64], algorithms: npt.NDArray[np.int64], values: Floats, shape: tuple[int, int]
) -> Floats:
    """Mean over the repeats of each item and algorithm that gave a number.

    Parameters
    ----------
    items, algorithms : array of int, shape (trials,)
        Whose trial it was, from 0.
    values : array of float, shape (trials,)
        Its score; NaN for a failure.
    shape : (items, algorithms)
        How many there are.

    Returns
    -------
    array of float of that shape
        NaN where no trial gave a number.
    """
    known = np.isfinite(values)
    at = items[known] * shape[1] + algorithms[known]
    count = np.bincount(at, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        found = np.bincount(at, values[known], minlength=shape[0] * shape[1]) / count
    return np.asarray(found.reshape(shape), dtype=np.float64)


def pairs(algorithms: Sequence[str]) -> list[tuple[int, int]]:
    """Every two algorithms once, by number, in order."""
    return [(i, j) for i in range(len(algorithms)) for j in range(i + 1, len(algorithms))]


def imputed(scores: Floats, has_trials: npt.NDArray[np.bool_], is_lower_better: bool) -> Floats:
    """Scores with the worst one that anybody had in the place of each failure.

    Parameters
    ----------
    scores : array of float, shape (items, algorithms)
        NaN where there is none.
    has_trials : array of bool, same shape
        Where there was a trial: NaN there is a failure.
    is_lower_better : bool
        Whether the highest score is the worst.
    """
    if np.all(np.isnan(scores)):
        return scores
    worst = np.nanmax(scores) if is_lower_better else np.nanmin(scores)
    return np.where(np.isnan(scores) & has_trials, worst, scores)
