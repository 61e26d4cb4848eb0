"""Differences of means by Student's t: paired, of two samples (Welch), of scores of folds (Nadeau and Bengio)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from celeryflow.compare.contrast import Effect, Floats, Interval


@dataclass(frozen=True)
class StudentT:
    """An estimate of a mean difference whose error over its standard error follows Student's t.

    Attributes
    ----------
    test : str
        Name of the test.
    n : int
        Pairs, or values of both sides.
    difference, error : float
        Estimate and its standard error (> 0), in the unit of the values.
    freedom : float
        Degrees of freedom, > 0.
    spread : float
        Standard deviation that `difference` is divided by for an effect size, > 0.
    effect_name : str
        What that effect size is called.
    """

    test: str
    n: int
    difference: float
    error: float
    freedom: float
    spread: float
    effect_name: str = "cohen_dz"
    estimand: str = "mean"
    smallest_p: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def statistic(self) -> float:
        """The t statistic."""
        return self.difference / self.error

    def p_value(self) -> float:
        """As of Contrast."""
        from scipy import stats

        return float(2.0 * stats.t.sf(abs(self.statistic), self.freedom))

    def p_greater(self, shift: float) -> float:
        """As of Contrast."""
        from scipy import stats

        return float(stats.t.sf((self.difference - shift) / self.error, self.freedom))

    def p_less(self, shift: float) -> float:
        """As of Contrast."""
        from scipy import stats

        return float(stats.t.cdf((self.difference - shift) / self.error, self.freedom))

    def interval(self, level: float) -> Interval:
        """As of Contrast."""
        from scipy import stats

        reach = float(stats.t.ppf(0.5 + level / 2.0, self.freedom)) * self.error
        return Interval(self.difference - reach, self.difference + reach)

    def effect(self, level: float) -> Effect:
        """Cohen's d, with the interval of the noncentral t whose quantiles hold the statistic.

        Notes
        -----
        Steiger and Fouladi (1997), "Noncentrality interval estimation and the evaluation of statistical models". Exact
        for normal differences.
        """
        scale = self.error / self.spread
        low, high = noncentrality(self.statistic, self.freedom, level)
        return Effect(self.effect_name, self.difference / self.spread, low * scale, high * scale)


def paired_t(differences: Floats) -> StudentT:
    """Student's t test of paired differences (Student, 1908): their mean.

    Parameters
    ----------
    differences : array of float, shape (n,)
        n >= 2, and not all equal.
    """
    n, spread = len(differences), float(np.std(differences, ddof=1))
    error = spread / math.sqrt(n)
    return StudentT("paired t", n, float(np.mean(differences)), error, n - 1.0, spread)


def welch(a: Floats, b: Floats) -> StudentT:
    """Welch's t test (1947): the difference of two means, whatever the two variances are.

    Parameters
    ----------
    a, b : array of float, shapes (n,) and (m,)
        n, m >= 2, and not both constant.

    Notes
    -----
    The effect is Cohen's d by the mean of both variances (Bonett, 2008); its interval comes from the noncentral t.
    """
    of_a, of_b = float(np.var(a, ddof=1)), float(np.var(b, ddof=1))
    mean_a, mean_b = of_a / len(a), of_b / len(b)
    freedom = (mean_a + mean_b) ** 2 / (mean_a**2 / (len(a) - 1) + mean_b**2 / (len(b) - 1))
    spread = math.sqrt((of_a + of_b) / 2.0)
    difference = float(np.mean(a) - np.mean(b))
    return StudentT("Welch t", len(a) + len(b), difference, math.sqrt(mean_a + mean_b), freedom, spread, "cohen_d")


def corrected_t(differences: Floats, test_over_train: float) -> StudentT:
    """The corrected resampled t test of Nadeau and Bengio (2003) on scores of the same folds.

    Folds share training data, so that their scores are correlated: the variance of the mean is taken as
    ``s**2 * (1/n + n_test/n_train)`` in place of ``s**2 / n``. For repeated cross-validation see Bouckaert and Frank
    (2004), "Evaluating the replicability of significance tests for comparing learning algorithms".

    Parameters
    ----------
    differences : array of float, shape (n,)
        Score of a minus score of b, fold by fold; n >= 2, and not all equal.
    test_over_train : float
        Items of a test fold for each item trained on, > 0.
    """
    n, spread = len(differences), float(np.std(differences, ddof=1))
    error = spread * math.sqrt(1.0 / n + test_over_train)
    return StudentT("Nadeau-Bengio corrected t", n, float(np.mean(differences)), error, n - 1.0, spread)


def noncentrality(statistic: float, freedom: float, level: float) -> tuple[float, float]:
    """The two noncentralities of t under which `statistic` is the upper, and the lower, quantile."""
    tail = (1.0 - level) / 2.0
    return _noncentrality(statistic, freedom, 1.0 - tail), _noncentrality(statistic, freedom, tail)


def _noncentrality(statistic: float, freedom: float, below: float) -> float:
    """Where ``P(T <= statistic)`` is `below`; it falls as the noncentrality grows."""
    from scipy import special

    if abs(statistic) > 0.05:  # near 0 scipy's search stops early, and the normal one below is right
        found = float(special.nctdtrinc(freedom, below, statistic))
        if math.isfinite(found):
            return found
    return statistic - float(special.ndtri(below)) * math.sqrt(1.0 + statistic**2 / (2.0 * freedom))
