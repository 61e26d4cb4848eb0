"""Differences looked at as they come: an e-process of sign symmetry, and the confidence sequence of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from celeryflow.compare.contrast import ALL, Effect, Floats, Interval
from celeryflow.compare.scaled import unit_of
from celeryflow.compare.student import paired_t

BETS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bets of the mixture, in units of one over the root mean square of the differences so far."""


@dataclass(frozen=True)
class SignSymmetry:
    """Whether paired differences are distributed symmetrically about zero; valid however often and whenever one looks.

    Given the sizes ``|d_1|, |d_2|, …``, under that hypothesis each sign is a fair coin. So for bets ``b_i`` that depend
    on the sizes up to i and the signs before i alone, the product of ``exp(b_i d_i) / cosh(b_i d_i)`` is a nonnegative
    martingale that starts at 1: the chance that it ever reaches 1 / alpha is at most alpha (Ville, 1939; de la Peña,
    1999; Ramdas, Ruf, Larsson and Koolen, 2020, "Admissible anytime-valid sequential inference must rely on nonnegative
    martingales"). Here it is the mean over bets of several sizes, each in the unit of the root mean square of the
    differences so far. One-sided: of the bets of one sign. The confidence sequence holds the shifts ``s`` for which the
    process of ``d - s`` is below 1 / alpha (Howard, Ramdas, McAuliffe and Sekhon, 2021). Of symmetric differences the
    shift is mean and median.

    Attributes
    ----------
    differences : array of float, shape (n,)
        In the order in which they came; finite.
    """

    differences: Floats
    estimand: str = "mean"
    notes: tuple[str, ...] = ("assumes that the differences are distributed symmetrically about their mean",)

    test = "sign-symmetry e-process"
    smallest_p = 0.0

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.differences)

    @property
    def difference(self) -> float:
        """Mean or median difference, as is asked for; of symmetric differences they are one."""
        if not self.n:
            return math.nan
        return float(np.mean(self.differences) if self.estimand == "mean" else np.median(self.differences))

    def evidence(self, shift: float = 0.0) -> tuple[Floats, Floats]:
        """The processes that bet on differences above, and below, `shift`; logarithms, shape (n,)."""
        moved = (self.differences - shift) / unit_of(self.differences)
        scale = np.sqrt(np.cumsum(moved**2) / np.arange(1, self.n + 1))
        scaled = np.divide(moved, scale, out=np.zeros_like(moved), where=scale > 0)
        bets = np.outer(BETS, scaled)
        cost = np.logaddexp(bets, -bets) - math.log(2.0)
        return _mixed(np.cumsum(bets - cost, axis=1)), _mixed(np.cumsum(-bets - cost, axis=1))

    def e_value(self, shift: float = 0.0) -> float:
        """The largest that the two-sided process about `shift` has been; at least 1."""
        if not self.n:
            return 1.0
        above, below = self.evidence(shift)
        return math.exp(min(700.0, max(0.0, float(np.max(np.logaddexp(above, below))) - math.log(2.0))))

    def p_value(self) -> float:
        """As of Contrast; valid at every look."""
        return 1.0 / self.e_value()

    def p_greater(self, shift: float) -> float:
        """As of Contrast; valid at every look."""
        return self._one_sided(shift, 0)

    def p_less(self, shift: float) -> float:
        """As of Contrast; valid at every look."""
        return self._one_sided(shift, 1)

    def _one_sided(self, shift: float, side: int) -> float:
        return math.exp(-min(700.0, max(0.0, float(np.max(self.evidence(shift)[side]))))) if self.n else 1.0

    def interval(self, level: float) -> Interval:
        """As of Contrast: the confidence sequence, where it stands now.

        The shifts at which the process has reached ``1 / (1 - level)`` lie on both sides of the estimate: search goes
        outwards from there; endless while there is too little evidence.
        """
        if not self.n:
            return Interval(*ALL)
        return Interval(self._end(-1.0, level), self._end(1.0, level))

    def _end(self, side: float, level: float) -> float:
        """The shift nearest to the estimate, on one side of it, that is rejected; endless where none is."""
        bound, center, reach = 1.0 / (1.0 - level), self._center, max(self._spread, 1e-300)
        near, far = 0.0, reach / 64.0
        while self.e_value(center + side * far) < bound:
            near, far = far, 2.0 * far
            if far > 1e9 * reach:
                return side * math.inf
        for _ in range(60):
            middle = (near + far) / 2.0
            near, far = (middle, far) if self.e_value(center + side * middle) < bound else (near, middle)
            if far - near < 1e-9 * reach:
                break
        return center + side * far

    @cached_property
    def _center(self) -> float:
        """Where the evidence is least: at the mean, or nearer to the median where that is rejected by itself."""
        candidates = (float(np.mean(self.differences)), float(np.median(self.differences)))
        return min(candidates, key=self.e_value)

    @property
    def _spread(self) -> float:
        return float(np.max(np.abs(self.differences - self._center)))

    def effect(self, level: float) -> Effect:
        """Cohen's d; its interval is that of the paired t at the end, and is not valid at every look."""
        if self.n < 2 or np.ptp(self.differences) == 0:
            sign = float(np.sign(self.difference)) if self.n else math.nan
            return Effect("cohen_dz", sign * math.inf if sign else sign, *ALL)
        return paired_t(self.differences).effect(level)


def _mixed(logs: Floats) -> Floats:
    """Logarithm of the mean of processes; shape (bets, n) to (n,)."""
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - math.log(len(logs)), dtype=np.float64)
