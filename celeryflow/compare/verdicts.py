"""From the tests of all pairs to verdicts: who is better, equivalent, or not told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from celeryflow.compare.adjust import adjusted
from celeryflow.compare.always import SignSymmetry
from celeryflow.compare.contrast import Contrast, Effect, Interval

Pair = tuple[str, str]

BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"
VERDICTS = (BETTER, WORSE, EQUIVALENT, INCONCLUSIVE)


class Rules(NamedTuple):
    """How the pairs of one metric are judged.

    Attributes
    ----------
    alpha : float
        Of the whole family of pairs, in (0, 0.5).
    correction : {"holm", "bh"}
        Of the p values of difference; those of equivalence are Holm's.
    rope : Interval or None
        Differences, ``a - b``, that make no difference in practice: it holds 0.
    is_lower_better : bool
        Whether the lower score is the better one.
    """

    alpha: float = 0.05
    correction: str = "holm"
    rope: Interval | None = None
    is_lower_better: bool = False

    @property
    def correction_of_equivalence(self) -> str:
        """Of the p values of equivalence."""
        return "bonferroni" if self.correction == "bonferroni" else "holm"


class Judged(NamedTuple):
    """One pair: the test of ``a - b``, and the verdict of a against b."""

    a: str
    b: str
    contrast: Contrast
    interval: Interval
    effect: Effect
    p_value: float
    p_adjusted: float
    p_equivalent: float
    verdict: str


def judge(contrasts: Mapping[Pair, Contrast], rules: Rules) -> list[Judged]:
    """Verdicts of the pairs of one metric, which are one family.

    Equivalent: both one-sided tests reject that the difference lies outside the rope (TOST; Schuirmann, 1987), Holm's
    adjusted p <= alpha; for one pair that is the (1 - 2 alpha) interval inside the rope. Else better or worse: adjusted
    p <= alpha and, with a rope, the simultaneous interval (Bonferroni) outside of it. Else inconclusive.

    Parameters
    ----------
    contrasts : mapping of (a, b) to Contrast
        Each pair once.
    rules : Rules
        Of this metric.
    """
    tests = list(contrasts.values())
    p_values = [test.p_value() for test in tests]
    p_adjusted = adjusted(p_values, rules.correction)
    p_equivalent = adjusted([_tost(test, rules.rope) for test in tests], rules.correction_of_equivalence)
    level = 1.0 - rules.alpha / max(1, len(tests))
    found = []
    for (a, b), test, p, p_adj, p_eq in zip(contrasts, tests, p_values, p_adjusted, p_equivalent, strict=True):
        interval, effect = test.interval(level), test.effect(level)
        if rules.is_lower_better:
            effect = Effect(effect.name, -effect.size + 0.0, -effect.high, -effect.low)
        verdict = _verdict(test.difference, interval, float(p_adj), float(p_eq), rules)
        found.append(Judged(a, b, test, interval, effect, p, float(p_adj), float(p_eq), verdict))
    return found


def glance(contrasts: Mapping[Pair, SignSymmetry], rules: Rules) -> dict[Pair, str]:
    """The verdicts of `judge` at a look, without the intervals: what an interval leaves out, its test rejects."""
    count = len(contrasts)
    found: dict[Pair, str] = {}
    for pair, test in contrasts.items():
        bound = count / rules.alpha
        e_values = [test.e_value(end) for end in ([0.0] if rules.rope is None else [0.0, *rules.rope])]
        if count * _tost(test, rules.rope) <= rules.alpha:
            found[pair] = EQUIVALENT
        elif min(e_values) < bound or (rules.rope is not None and rules.rope.low <= test.difference <= rules.rope.high):
            found[pair] = INCONCLUSIVE
        else:
            found[pair] = BETTER if (test.difference < 0) == rules.is_lower_better else WORSE
    return found


def winner(judged: Sequence[Judged], algorithms: Sequence[str], is_transitive: bool = False) -> str | None:
    """The algorithm that is better than every other one; None where there is none.

    With `is_transitive`, who is better than another one is better than those that it had beaten, too: of arms that were
    dropped on the way no more is known.
    """
    beaten: dict[str, set[str]] = {name: set() for name in algorithms}
    for pair in judged:
        if pair.verdict == BETTER:
            beaten[pair.a].add(pair.b)
        elif pair.verdict == WORSE:
            beaten[pair.b].add(pair.a)
    for _ in algorithms if is_transitive else ():
        beaten = {name: others.union(*(beaten[other] for other in others)) for name, others in beaten.items()}
    return next((name for name, others in beaten.items() if len(others) == len(algorithms) - 1), None)


def _tost(test: Contrast, rope: Interval | None) -> float:
    return 1.0 if rope is None else max(test.p_greater(rope.low), test.p_less(rope.high))


def _verdict(difference: float, interval: Interval, p_adjusted: float, p_equivalent: float, rules: Rules) -> str:
    rope = rules.rope
    if rope is not None and p_equivalent <= rules.alpha:
        return EQUIVALENT
    is_outside = rope is None or interval.low > rope.high or interval.high < rope.low
    if not (p_adjusted <= rules.alpha and is_outside and abs(difference) > 0):  # nor where one is no number
        return INCONCLUSIVE
    return BETTER if (difference < 0) == rules.is_lower_better else WORSE
