"""Three or more algorithms on the same items: average ranks, Friedman's test, and the Nemenyi distance."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from celeryflow.compare.contrast import Floats


class Omnibus(NamedTuple):
    """A test of no difference between any of several algorithms."""

    test: str
    statistic: float
    p_value: float
    n_items: int
    n_algorithms: int


def average_ranks(scores: Floats, is_lower_better: bool) -> Floats:
    """Mean rank of each algorithm over the items that all of them have, 1 the best; ties share (Demsar, 2006).

    Parameters
    ----------
    scores : array of float, shape (items, algorithms)
        NaN where there is none.
    is_lower_better : bool
        Which end is rank 1.

    Returns
    -------
    array of float, shape (algorithms,)
        NaN where no item is complete.
    """
    from scipy import stats

    complete = scores[np.all(np.isfinite(scores), axis=1)]
    if not len(complete):
        return np.full(scores.shape[1], np.nan)
    ranks = stats.rankdata(complete if is_lower_better else -complete, axis=1)
    return np.asarray(ranks.mean(axis=0), dtype=np.float64)


def friedman(scores: Floats) -> Omnibus:
    """Friedman's test (1937) on the complete items: scipy's, corrected for ties.

    Parameters
    ----------
    scores : array of float, shape (items, algorithms)
        NaN where there is none; three algorithms or more.
    """
    from scipy import stats

    complete = scores[np.all(np.isfinite(scores), axis=1)]
    n, k = complete.shape
    if n < 2 or np.all(np.ptp(complete, axis=1) == 0):  # all ranks are equal: no evidence
        return Omnibus("Friedman", 0.0 if n else math.nan, 1.0, n, k)
    found = stats.friedmanchisquare(*complete.T)
    return Omnibus("Friedman", float(found.statistic), float(found.pvalue), n, k)


def kruskal(samples: list[Floats]) -> Omnibus:
    """The Kruskal-Wallis test (1952) of samples that share no items."""
    from scipy import stats

    known = [sample[np.isfinite(sample)] for sample in samples]
    n, k = sum(map(len, known)), len(known)
    if min(map(len, known)) < 1 or np.ptp(np.concatenate(known)) == 0:
        return Omnibus("Kruskal-Wallis", 0.0 if n else math.nan, 1.0, n, k)
    found = stats.kruskal(*known)
    return Omnibus("Kruskal-Wallis", float(found.statistic), float(found.pvalue), n, k)


def nemenyi_distance(algorithms: int, items: int, alpha: float) -> float:
    """Two average ranks that lie further apart differ, by Nemenyi's test (1963; Demsar, 2006, section 3.2.2).

    Parameters
    ----------
    algorithms, items : int
        At least 2, and at least 1.
    alpha : float
        In (0, 1).

    Examples
    --------
    >>> round(nemenyi_distance(4, 14, 0.05), 2)
    1.25
    """
    if items < 1:
        return math.nan
    return _quantile(algorithms, alpha) * math.sqrt(algorithms * (algorithms + 1) / (6.0 * items))


@cache
def _quantile(algorithms: int, alpha: float) -> float:
    from scipy import stats

    return float(stats.studentized_range.ppf(1.0 - alpha, algorithms, np.inf)) / math.sqrt(2.0)
