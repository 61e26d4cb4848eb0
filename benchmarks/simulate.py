"""Samples without number, and the p values of the library's tests on all of them at once.

A test of one comparison takes a millisecond; here whole arrays go through numpy and scipy. That this is the library's
own choice of test, and its own p value, is seen on some samples of each array, by `checked`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from celeryflow.compare import choice
from celeryflow.compare.contrast import Contrast
from celeryflow.compare.studentized import is_complete, statistics, usual

Floats = npt.NDArray[np.float64]
Shape = tuple[int, ...]

VALUES: dict[str, Callable[[np.random.Generator, Shape], Floats]] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed (lognormal)": lambda random, shape: random.lognormal(size=shape),
    "heavy tails (t, 3 degrees)": lambda random, shape: random.standard_t(3, shape),
    "tied (rounded normal)": lambda random, shape: np.round(random.normal(size=shape)),
    "discrete (0 or 1)": lambda random, shape: random.integers(0, 2, shape).astype(float),
}
"""How the scores of one algorithm are distributed."""

SPREADS = {
    "normal": 1.0,
    "skewed (lognormal)": float(np.sqrt((np.e - 1) * np.e)),
    "heavy tails (t, 3 degrees)": float(np.sqrt(3.0)),
}
"""Their standard deviations, where they are continuous."""

LOOKED_AT = 2
"""Samples of each array that the library itself tests."""


class NotTheLibrarysError(AssertionError):
    """What was worked out in bulk is not what the library gives."""


def pairs(algorithms: int) -> list[tuple[int, int]]:
    """Every two algorithms once."""
    return list(itertools.combinations(range(algorithms), 2))


def checked(p_values: Floats, of: Callable[[int], Contrast]) -> Floats:
    """The p values, of which the library gives the first ones itself."""
    for at in range(min(LOOKED_AT, len(p_values))):
        if abs((known := of(at).p_value()) - p_values[at]) > 1e-9:
            raise NotTheLibrarysError(f"{of(at).test}: {p_values[at]} in bulk, {known} in the library.")
    return p_values


def paired(differences: Floats, estimand: str) -> Floats:
    """p values of paired differences, shape (samples, n); as of `choice.paired`."""
    n = differences.shape[1]
    found = _signed_ranks(differences) if estimand == "median" and n >= choice.FEW else _t(differences)
    if estimand == "mean" and choice.FEW <= n < choice.MANY:
        is_tied = _alike(np.abs(differences))
        found[is_tied] = _sign_flips(differences[is_tied])
    is_constant = np.ptp(differences, axis=1) == 0
    found[is_constant] = np.where(differences[is_constant, 0] == 0, 1.0, 2.0 ** (1 - n))
    return checked(found, lambda at: choice.paired(differences[at], estimand))


def _alike(values: Floats) -> npt.NDArray[np.bool_]:
    """As of `choice.are_alike`, of each row."""
    others = np.count_nonzero(np.diff(np.sort(values, axis=1), axis=1) > 1e-12, axis=1)
    return np.asarray(2 * (1 + others) <= values.shape[1])


def _t(differences: Floats) -> Floats:
    n = differences.shape[1]
    with np.errstate(all="ignore"):
        statistic = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / np.sqrt(n))
    return np.asarray(2.0 * special.stdtr(n - 1, -np.abs(statistic)))


def _signed_ranks(differences: Floats) -> Floats:
    """scipy's, which goes through all signs where there are ties or zeros among at most 13; here for all at once."""
    n, sizes = differences.shape[1], np.abs(differences)
    is_tied = np.any(np.diff(np.sort(np.hstack([np.zeros((len(sizes), 1)), sizes]), axis=1), axis=1) == 0, axis=1)
    found = np.ones(len(differences))
    plain = np.flatnonzero(~is_tied | ((n > 13) & np.any(sizes > 0, axis=1)))
    if len(plain):
        with np.errstate(all="ignore"):
            found[plain] = stats.wilcoxon(differences[plain], axis=1).pvalue
    if n <= 13 and np.any(is_tied):
        zeros = np.count_nonzero(sizes[is_tied] == 0, axis=1, keepdims=True)
        ranks = np.where(sizes[is_tied] > 0, stats.rankdata(sizes[is_tied], axis=1) - zeros, 0.0)
        found[is_tied] = _sign_flips(np.sign(differences[is_tied]) * ranks)
    return found


def _sign_flips(differences: Floats) -> Floats:
    n = differences.shape[1]
    if n > 14:
        return np.array([choice.paired(row, "mean").p_value() for row in differences])
    flips = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    means, seen = flips @ differences.T, differences.sum(axis=1)
    greater, less = np.mean(means >= seen - 1e-9, axis=0), np.mean(means <= seen + 1e-9, axis=0)
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(greater, less)))


def unpaired(a: Floats, b: Floats, estimand: str, level: float) -> Floats:
    """p values of samples that share no items, shapes (samples, n); as of `choice.unpaired`."""
    n = a.shape[1]
    is_ranked = estimand == "median" and n >= choice.FEW
    found = _brunner_munzel(a, b, level) if is_ranked else _welch(a, b)
    if estimand == "mean" and choice.FEW <= n < choice.MANY:
        for at in np.flatnonzero(_alike(np.hstack([a, b]))):
            found[at] = choice.unpaired(a[at], b[at], estimand, level).p_value()
    is_constant = (np.ptp(a, axis=1) == 0) & (np.ptp(b, axis=1) == 0)
    apart = 2.0 / special.comb(2 * n, n, exact=True)
    found[is_constant] = np.where(a[is_constant, 0] == b[is_constant, 0], 1.0, apart)
    return checked(found, lambda at: choice.unpaired(a[at], b[at], estimand, level))


def _welch(a: Floats, b: Floats) -> Floats:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sides that do not vary
        return np.array(stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue)


def _brunner_munzel(a: Floats, b: Floats, level: float) -> Floats:
    n = a.shape[1]
    seen = statistics(np.hstack([a, b]), n)
    if n < choice.SOME or (n < choice.MANY and level < 0.01):
        if len(np.unique(np.hstack([a[0], b[0]]))) < 2 * n:  # ties: each sample has deals of its own
            return np.array([choice.unpaired(*sides, "median", level).p_value() for sides in zip(a, b, strict=True)])
        deals = usual(tuple(map(float, range(1, 2 * n + 1))), n)
        drawn = 0 if is_complete(2 * n, n) else 1
        slack = np.where(np.isfinite(seen), 1e-9 * np.maximum(1.0, np.abs(seen)), 0.0)
        at_least = len(deals) - np.searchsorted(deals, seen - slack, side="left")
        at_most = np.searchsorted(deals, seen + slack, side="right")
        fewest = np.maximum(1, np.minimum(at_least, at_most) + drawn)
        return np.asarray(np.minimum(1.0, 2.0 * fewest / (len(deals) + drawn)))
    with np.errstate(all="ignore"):
        found = np.array(stats.brunnermunzel(a, b, axis=1).pvalue)
    found[np.isinf(seen)] = 2.0 / special.comb(2 * n, n, exact=True)
    return np.where(np.isfinite(found), found, 1.0)


def holm(p_values: Sequence[Floats]) -> Floats:
    """p values of families, adjusted as by `adjust.adjusted`; shape (pairs, samples) in and out."""
    given = np.asarray(p_values)
    order = np.argsort(given, axis=0, kind="stable")
    steps = (len(given) - np.arange(len(given)))[:, None]
    stepped = np.minimum(np.maximum.accumulate(steps * np.take_along_axis(given, order, axis=0), axis=0), 1.0)
    found = np.empty_like(given)
    np.put_along_axis(found, order, stepped, axis=0)
    return found
