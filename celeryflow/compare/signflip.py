"""The sign-flip permutation test of a mean of paired differences, and the interval that it inverts to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from celeryflow.compare.contrast import ALL, Effect, Floats, Interval
from celeryflow.compare.student import paired_t

EXACT_UP_TO = 14
"""Up to so many differences every pattern of signs is gone through; beyond, `DRAWS` are drawn."""

DRAWS = 9999
_ROUNDING, _AT_ONCE = 1e-12, 1_000_000


@dataclass(frozen=True)
class SignFlip:
    """Whether the mean of differences is zero, if their distribution is symmetric about it.

    Under that hypothesis each sign is a fair coin (Fisher, 1935, section 21). The one-sided p value of a shift ``s`` is
    the share of sign patterns whose mean of ``d - s`` is at least as large as the one seen. As a flip of a set F moves
    the mean by ``2/n`` of the sum over F, that happens where ``s`` is at least the mean of the d in F: the interval is
    made of order statistics of those subset means (Hartigan, 1969, "Using subsample values as typical values").

    Attributes
    ----------
    differences : array of float, shape (n,)
        n >= 1.
    seed : int
        Of the patterns drawn where there are too many to go through all.
    """

    differences: Floats
    seed: int = 0
    estimand: str = "mean"
    notes: tuple[str, ...] = ()

    test = "sign-flip permutation"

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.differences)

    @property
    def difference(self) -> float:
        """Mean difference."""
        return float(np.mean(self.differences))

    @property
    def smallest_p(self) -> float:
        """Two patterns of all: the data, and its mirror image."""
        return 2.0**-self.n * 2.0 if self.n <= EXACT_UP_TO else max(2.0 ** (1 - self.n), 2.0 / (DRAWS + 1))

    @cached_property
    def _patterns(self) -> int:
        """How many patterns of signs are looked at, the one seen (nothing flipped) among them."""
        return 2**self.n if self.n <= EXACT_UP_TO else DRAWS + 1

    @cached_property
    def _subset_means(self) -> Floats:
        """Mean of the flipped differences, for each pattern that flips any; sorted."""
        found = []
        for flipped in self._flips():
            count = flipped.sum(axis=1)
            found.append((flipped[count > 0] @ self.differences) / count[count > 0])
        return np.asarray(np.sort(np.concatenate(found)), dtype=np.float64)

    def _flips(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Patterns but the one seen, shape (some, n) each."""
        if self.n <= EXACT_UP_TO:
            yield (np.arange(1, 2**self.n)[:, None] >> np.arange(self.n)) & 1 == 1
            return
        random, left = np.random.default_rng(self.seed), DRAWS
        while left:
            some = min(left, max(1, _AT_ONCE // self.n))
            yield random.random((some, self.n)) < 0.5
            left -= some

    @cached_property
    def _unflipped(self) -> int:
        """Patterns that flip nothing: as large as the one seen whatever the shift."""
        return self._patterns - len(self._subset_means)

    def _rounding(self, shift: float) -> float:
        return _ROUNDING * max(1e-300, abs(shift), float(np.max(np.abs(self.differences))))

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        at_least = np.searchsorted(self._subset_means, shift + self._rounding(shift), side="right")
        return float(at_least + self._unflipped) / self._patterns

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        below = np.searchsorted(self._subset_means, shift - self._rounding(shift), side="left")
        return float(len(self._subset_means) - below + self._unflipped) / self._patterns

    def p_value(self) -> float:
        """As of Contrast: twice the smaller one-sided one."""
        return min(1.0, 2.0 * min(self.p_greater(0.0), self.p_less(0.0)))

    def interval(self, level: float) -> Interval:
        """The shifts that neither one-sided test rejects at ``(1 - level) / 2``; endless for too few pairs."""
        means, patterns = self._subset_means, self._patterns
        # p_greater(s) <= tail while at most `spare` subset means lie at or below s.
        spare = int(np.floor((1.0 - level) / 2.0 * patterns + 1e-9)) - self._unflipped
        if spare < 0:
            return Interval(float("-inf"), float("inf"))
        return Interval(float(means[spare]), float(means[len(means) - 1 - spare]))

    def effect(self, level: float) -> Effect:
        """Cohen's d of the differences, as of the paired t."""
        return paired_t(self.differences).effect(level)


@dataclass(frozen=True)
class Constant:
    """The sign-flip test of differences that do not vary: only the pattern seen, of ``2**n``, reaches their mean.

    Attributes
    ----------
    n : int
        Pairs, >= 1.
    difference : float
        What all of them are.
    """

    n: int
    difference: float
    estimand: str = "mean"
    notes: tuple[str, ...] = ("the differences do not vary, so that only their signs are counted",)

    test = "sign-flip permutation"

    @property
    def smallest_p(self) -> float:
        """As of Contrast."""
        return min(1.0, 2.0 ** (1 - self.n))

    def p_value(self) -> float:
        """As of Contrast."""
        return self.smallest_p if self.difference else 1.0

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        return 2.0**-self.n if self.difference > shift else 1.0

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        return 2.0**-self.n if self.difference < shift else 1.0

    def interval(self, level: float) -> Interval:
        """As of Contrast: a point, or endless where there are too few pairs."""
        is_known = 2.0**-self.n <= (1.0 - level) / 2.0 * (1.0 + _ROUNDING)
        return Interval(self.difference, self.difference) if is_known else Interval(*ALL)

    def effect(self, level: float) -> Effect:
        """Cohen's d: 0, or endless, as nothing varies."""
        return Effect("cohen_dz", math.copysign(math.inf, self.difference) if self.difference else 0.0, *ALL)
