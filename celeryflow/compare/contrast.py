"""What a test of one difference gives: an estimate, p values and intervals of one and the same estimand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALL = (float("-inf"), float("inf"))
"""The interval where nothing is known."""


class Interval(NamedTuple):
    """A confidence interval, or a region of values."""

    low: float
    high: float


class Effect(NamedTuple):
    """A standardised effect: positive where the first of the two is larger."""

    name: str
    size: float
    low: float
    high: float


class Contrast(Protocol):
    """A test of a difference, ``a - b``.

    Attributes
    ----------
    test, estimand : str
        What the test is called, and what it is about.
    n : int
        Pairs, or values of both sides.
    difference : float
        The estimate, in the unit of the values.
    smallest_p : float
        No data of this size can give a two-sided p value below it; 0 where there is no such bound.
    notes : tuple of str
        What a reader has to know of it.
    """

    @property
    def test(self) -> str:
        """As above."""

    @property
    def estimand(self) -> str:
        """As above."""

    @property
    def n(self) -> int:
        """As above."""

    @property
    def difference(self) -> float:
        """As above."""

    @property
    def smallest_p(self) -> float:
        """As above."""

    @property
    def notes(self) -> tuple[str, ...]:
        """As above."""

    def p_value(self) -> float:
        """Two-sided, of no difference."""

    def p_greater(self, shift: float) -> float:
        """One-sided: small where the difference is above `shift`."""

    def p_less(self, shift: float) -> float:
        """One-sided: small where the difference is below `shift`."""

    def interval(self, level: float) -> Interval:
        """Two-sided interval of the difference at a confidence level in (0, 1)."""

    def effect(self, level: float) -> Effect:
        """The difference in a unit of its own, with an interval."""


@dataclass(frozen=True)
class Unknown:
    """Nothing can be said: there is no pair at all, or a single one."""

    n: int
    difference: float
    estimand: str
    test: str = "none"
    effect_name: str = "cohen_dz"
    smallest_p: float = 1.0
    notes: tuple[str, ...] = ()

    def p_value(self) -> float:
        """As of Contrast: no evidence at all."""
        return 1.0

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        return 1.0

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        return 1.0

    def interval(self, level: float) -> Interval:
        """As of Contrast."""
        return Interval(*ALL)

    def effect(self, level: float) -> Effect:
        """As of Contrast."""
        return Effect(self.effect_name, float("nan"), *ALL)


def is_constant(values: Floats) -> bool:
    """Whether values differ by no more than rounding does."""
    spread, size = float(np.ptp(values)), float(np.max(np.abs(values)))
    return bool(spread <= 64 * np.finfo(np.float64).eps * size)
