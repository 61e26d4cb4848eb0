"""How many items a comparison needs to find a difference that matters."""

from __future__ import annotations

import math
from collections.abc import Callable

from celeryflow.errors import ComparisonError

RANKS = math.pi / 3.0
"""Items of a rank test for one of a t test, on normal differences (Pitman's efficiency of Wilcoxon's test)."""

MOST = 10**9


def pairs_needed(effect: float, spread: float, power: float, alpha: float) -> int:
    """Pairs of which a two-sided paired t test finds a mean difference.

    Parameters
    ----------
    effect, spread : float
        The difference, and the standard deviation of differences, in one unit; > 0, >= 0.
    power : float
        Chance to find it, in (alpha, 1).
    alpha : float
        Of the test, in (0, 1).

    Notes
    -----
    By the noncentral t (Cohen, 1988, chapter 2); at least 2.

    Examples
    --------
    >>> pairs_needed(0.5, 1.0, 0.8, 0.05)
    34
    """
    return _smallest(lambda n: _power(effect / spread * math.sqrt(n) if spread else math.inf, n - 1.0, alpha), power)


def each_needed(effect: float, spread: float, power: float, alpha: float) -> int:
    """Items of each side of which a two-sided two-sample t test finds a mean difference; arguments as above.

    Examples
    --------
    >>> each_needed(0.5, 1.0, 0.8, 0.05)
    64
    """
    return _smallest(
        lambda n: _power(effect / spread * math.sqrt(n / 2.0) if spread else math.inf, 2.0 * n - 2.0, alpha), power
    )


def _power(center: float, freedom: float, alpha: float) -> float:
    """Chance that a noncentral t is beyond the two-sided bound."""
    from scipy import special

    bound = float(special.stdtrit(freedom, 1.0 - alpha / 2.0))
    if center > 30.0 + bound:
        return 1.0
    inside = float(special.nctdtr(freedom, center, bound)) - float(special.nctdtr(freedom, center, -bound))
    return 1.0 - inside if math.isfinite(inside) else float(special.ndtr(center - bound))


def _smallest(at: Callable[[int], float], power: float) -> int:
    """The smallest n >= 2 at which a growing power is there."""
    high = 2
    while at(high) < power:
        high *= 2
        if high > MOST:
            raise ComparisonError("effect= is so small that no feasible number of items would find it.")
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= power else (middle + 1, high)
    return high
