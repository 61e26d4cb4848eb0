"""The Brunner-Munzel test of two samples, with the median difference and the interval it inverts to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from celeryflow.compare.contrast import Effect, Floats, Interval
from celeryflow.compare.signedrank import inverted


@dataclass(frozen=True)
class BrunnerMunzel:
    """Whether the median of ``a - b``, of values drawn independently, is zero; shapes and variances may differ.

    The p values are those of ``scipy.stats.brunnermunzel`` (Brunner and Munzel, 2000), of the hypothesis
    ``P(a > b) + P(a = b) / 2 = 1/2``: that the median of ``a - b`` is zero. The estimate is the median of all
    differences (Hodges and Lehmann, 1963), and the interval holds the shifts of `a` that the same test does not reject.

    Attributes
    ----------
    a, b : array of float, shapes (n,) and (m,)
        n, m >= 2.
    estimand : str
        What the difference is said to be: of two sides that do not vary, the mean one as well.
    """

    a: Floats
    b: Floats
    notes: tuple[str, ...] = ()
    estimand: str = "median"

    test = "Brunner-Munzel"

    @property
    def n(self) -> int:
        """Values of both sides."""
        return len(self.a) + len(self.b)

    @cached_property
    def _differences(self) -> Floats:
        """All differences, sorted; shape (n * m,)."""
        return np.asarray(np.sort(np.subtract.outer(self.a, self.b), axis=None), dtype=np.float64)

    @property
    def difference(self) -> float:
        """The two-sample Hodges-Lehmann estimate."""
        return float(np.median(self._differences))

    @property
    def smallest_p(self) -> float:
        """Both sides apart: one order of all, and its mirror image (as of the rank-sum test)."""
        return 2.0 / math.comb(self.n, len(self.a))

    def p_value(self) -> float:
        """As of Contrast."""
        return self._p(0.0, "two-sided")

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        return self._p(shift, "greater")

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        return self._p(shift, "less")

    def _p(self, shift: float, alternative: str) -> float:
        """scipy's; where the samples are apart, and its variance is zero, that of the rank-sum test."""
        from scipy import stats

        moved = self.a - shift
        size = relative_effect(moved, self.b)
        if size in (0.0, 1.0):
            tail = self.smallest_p / 2.0
            if alternative == "two-sided":
                return 2.0 * tail
            return tail if (size == 1.0) == (alternative == "greater") else 1.0
        if len(np.unique([*moved, *self.b])) == 1:
            return 1.0 if alternative == "two-sided" else 0.5
        with np.errstate(all="ignore"):
            found = float(stats.brunnermunzel(moved, self.b, alternative=alternative).pvalue)
        return found if math.isfinite(found) else 1.0

    def interval(self, level: float) -> Interval:
        """As of Contrast: from one difference to another."""
        size = max(float(np.max(np.abs(self.a))), float(np.max(np.abs(self.b))))
        return inverted(self._differences, (1.0 - level) / 2.0, self.p_greater, self.p_less, size)

    def effect(self, level: float) -> Effect:
        """Cliff's delta, ``P(a > b) - P(a < b)``: -1 to 1, with the interval of Brunner and Munzel's t."""
        from scipy import stats

        n, m = len(self.a), len(self.b)
        size = 2.0 * relative_effect(self.a, self.b) - 1.0
        of_a, of_b = (float(np.var(placements, ddof=1)) for placements in _placements(self.a, self.b))
        variance = of_a / n + of_b / m
        if variance == 0.0:
            return Effect("cliff_delta", size, -1.0, 1.0)
        freedom = variance**2 / ((of_a / n) ** 2 / (n - 1) + (of_b / m) ** 2 / (m - 1))
        reach = 2.0 * float(stats.t.ppf(0.5 + level / 2.0, freedom)) * math.sqrt(variance)
        return Effect("cliff_delta", size, max(-1.0, size - reach), min(1.0, size + reach))


def relative_effect(a: Floats, b: Floats) -> float:
    """``P(a > b) + P(a = b) / 2`` of two samples."""
    return float(np.mean(_placements(a, b)[0]))


def _placements(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """For each value of one side, the share of the other side below it, ties half."""
    return _shares(a, np.sort(b)), _shares(b, np.sort(a))


def _shares(values: Floats, others: Floats) -> Floats:
    below = np.searchsorted(others, values, side="left") + np.searchsorted(others, values, side="right")
    return np.asarray(below / (2.0 * len(others)), dtype=np.float64)
