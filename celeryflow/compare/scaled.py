"""Values so large or small that their squares leave the range of floats: tested in a unit in which they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from celeryflow.compare.contrast import Contrast, Effect, Floats, Interval

SAFE = (1e-140, 1e140)
"""Sizes whose squares, and the sums of those, are floats of full precision."""


def unit_of(*samples: Floats) -> float:
    """What to divide values by: 1, or a power of two near the largest of them where that is not safe."""
    sizes = [float(np.max(np.abs(known))) for sample in samples if len(known := sample[np.isfinite(sample)])]
    largest = max(sizes, default=0.0)
    if not largest or SAFE[0] <= largest <= SAFE[1]:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)


@dataclass(frozen=True)
class Scaled:
    """A test of values that were divided by `unit`, told in the unit that they had.

    Attributes
    ----------
    of : Contrast
        Of the divided values.
    unit : float
        A power of two, so that nothing is rounded.
    """

    of: Contrast
    unit: float

    @property
    def test(self) -> str:
        """As of Contrast."""
        return self.of.test

    @property
    def estimand(self) -> str:
        """As of Contrast."""
        return self.of.estimand

    @property
    def n(self) -> int:
        """As of Contrast."""
        return self.of.n

    @property
    def difference(self) -> float:
        """As of Contrast."""
        return self.of.difference * self.unit

    @property
    def smallest_p(self) -> float:
        """As of Contrast."""
        return self.of.smallest_p

    @property
    def notes(self) -> tuple[str, ...]:
        """As of Contrast."""
        return self.of.notes

    def p_value(self) -> float:
        """As of Contrast."""
        return self.of.p_value()

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        return self.of.p_greater(self._moved(shift))

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        return self.of.p_less(self._moved(shift))

    def interval(self, level: float) -> Interval:
        """As of Contrast."""
        low, high = self.of.interval(level)
        return Interval(low * self.unit, high * self.unit)

    def effect(self, level: float) -> Effect:
        """As of Contrast."""
        return self.of.effect(level)

    def _moved(self, shift: float) -> float:
        return min(max(shift / self.unit, -SAFE[1]), SAFE[1])
