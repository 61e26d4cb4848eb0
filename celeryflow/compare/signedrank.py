"""Wilcoxon's signed-rank test of paired differences, with the Hodges-Lehmann estimate and its interval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from celeryflow.compare.contrast import Effect, Floats, Interval

SYMMETRY = "assumes that the differences are distributed symmetrically about their median"


@dataclass(frozen=True)
class SignedRank:
    """Whether the pseudomedian of differences is zero: their median, where they are distributed symmetrically.

    The p values are those of ``scipy.stats.wilcoxon`` (Wilcoxon, 1945): exact for up to 50 differences without ties and
    zeros. The estimate is the median of the Walsh averages ``(d_i + d_j) / 2``, i <= j (Hodges and Lehmann, 1963), and
    the interval holds the shifts that the same test does not reject (Hollander and Wolfe, 1999, section 3.3).

    Attributes
    ----------
    differences : array of float, shape (n,)
        n >= 2.
    """

    differences: Floats
    notes: tuple[str, ...] = (SYMMETRY,)

    test = "Wilcoxon signed-rank"
    estimand = "median"

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.differences)

    @cached_property
    def _walsh(self) -> Floats:
        """Walsh averages, sorted; shape (n (n + 1) / 2,)."""
        i, j = np.triu_indices(self.n)
        return np.asarray(np.sort((self.differences[i] + self.differences[j]) / 2.0), dtype=np.float64)

    @property
    def difference(self) -> float:
        """The Hodges-Lehmann estimate."""
        return float(np.median(self._walsh))

    @property
    def smallest_p(self) -> float:
        """All differences on one side."""
        return 2.0 * 2.0 ** -int(np.count_nonzero(self.differences))

    def _test(self, shift: float, alternative: str) -> float:
        from scipy import stats

        moved = self.differences - shift
        if not np.any(moved):
            return 1.0
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of small samples: `smallest_p` says it
            return float(stats.wilcoxon(moved, alternative=alternative).pvalue)

    def p_value(self) -> float:
        """As of Contrast."""
        return self._test(0.0, "two-sided")

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        return self._test(shift, "greater")

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        return self._test(shift, "less")

    def interval(self, level: float) -> Interval:
        """As of Contrast: from one Walsh average to another."""
        return inverted(self._walsh, (1.0 - level) / 2.0, self.p_greater, self.p_less)

    def effect(self, level: float) -> Effect:
        """The matched-pairs rank-biserial correlation (Kerby, 2014): -1 to 1.

        Its interval is that of the jackknife (Arvesen, 1969) after Fisher's transformation.
        """
        size = rank_biserial(self.differences)
        if self.n < 3 or abs(size) == 1.0:
            return Effect("rank_biserial", size, -1.0, 1.0)
        from scipy import stats

        left_out = [rank_biserial(np.delete(self.differences, i)) for i in range(self.n)]
        z, *values = np.arctanh(np.clip([size, *left_out], -0.999999, 0.999999))
        error = float(np.sqrt((self.n - 1) / self.n * np.sum((values - np.mean(values)) ** 2)))
        reach = float(stats.t.ppf(0.5 + level / 2.0, self.n - 1)) * error
        return Effect("rank_biserial", size, float(np.tanh(z - reach)), float(np.tanh(z + reach)))


def rank_biserial(differences: Floats) -> float:
    """Share of the rank sum that is positive, minus the share that is negative; 0 where all are zero."""
    from scipy import stats

    kept = differences[differences != 0]
    if not len(kept):
        return 0.0
    ranks = stats.rankdata(np.abs(kept))
    return float(np.sum(ranks * np.sign(kept)) / np.sum(ranks))


def inverted(
    steps: Floats, tail: float, p_greater: Callable[[float], float], p_less: Callable[[float], float], size: float = 0.0
) -> Interval:
    """The interval of the shifts that two one-sided tests do not reject at `tail`.

    Parameters
    ----------
    steps : array of float
        Sorted; the p values change at these shifts alone.
    tail : float
        Half of what the interval leaves out, in (0, 0.5).
    p_greater, p_less : callable
        One-sided p values of a shift: the first grows with it, the second falls.
    size : float
        Of the values that are shifted: a shift beyond all steps has to be seen beside them.
    """
    places = np.unique(steps)
    between = (places[:-1] + places[1:]) / 2.0
    width = max(float(np.ptp(places)), abs(float(places[0])), size, 1e-300)
    shifts = [float(places[0] - width), *map(float, between), float(places[-1] + width)]
    # Number of gaps, from the left, whose shifts are rejected as too small; and from the right, as too large.
    low = _first(len(shifts), lambda i: p_greater(shifts[i]) > tail)
    high = len(shifts) - 1 - _first(len(shifts), lambda i: p_less(shifts[-1 - i]) > tail)
    is_open_left, is_open_right = low == 0, high == len(shifts) - 1
    if low > high:
        middle = float(np.median(steps))
        return Interval(middle, middle)
    # Ties change the test at a step itself: an end that it rejects is left out, by the least that a float can.
    least, most = float(places[max(0, low - 1)]), float(places[min(high, len(places) - 1)])
    if p_greater(least) <= tail:
        least = math.nextafter(least, math.inf)
    if p_less(most) <= tail:
        most = math.nextafter(most, -math.inf)
    return Interval(float("-inf") if is_open_left else least, float("inf") if is_open_right else most)


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first of 0 to `count` from which on a monotone condition holds."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
