"""The statistics of one comparison: contrasts and verdicts of every metric, ranks, and the winner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from celeryflow.compare import ranks
from celeryflow.compare.always import SignSymmetry
from celeryflow.compare.choice import folds, paired, unpaired
from celeryflow.compare.contrast import Contrast, Floats, Interval, is_constant
from celeryflow.compare.power import RANKS, each_needed, pairs_needed
from celeryflow.compare.question import Question
from celeryflow.compare.ranks import Omnibus
from celeryflow.compare.results import Results
from celeryflow.compare.scaled import Scaled, unit_of
from celeryflow.compare.scores import imputed, pairs
from celeryflow.compare.student import corrected_t, paired_t
from celeryflow.compare.verdicts import Judged, Pair, Rules, glance, judge, winner
from celeryflow.errors import ComparisonError


@dataclass(frozen=True)
class Analysis:
    """What follows from results; all of it is worked out once, when it is first asked for."""

    question: Question
    results: Results
    _judged: dict[str, list[Judged]] = field(default_factory=dict)

    def scores(self, metric: str) -> Floats:
        """As of Results."""
        return self.results.scores(self.question.metrics.index(metric))

    def rules(self, metric: str) -> Rules:
        """How the pairs of a metric are judged."""
        asked = self.question
        correction = "bonferroni" if asked.is_sequential else asked.correction
        return Rules(asked.alpha, correction, asked.rope.get(metric), metric in asked.lower_is_better)

    def glance(self) -> dict[Pair, str]:
        """Verdict of each pair of the primary metric, at a look of a sequential comparison."""
        asked, scores = self.question, self.scores(self.question.primary)[self._order]
        tests = {
            (asked.algorithms[i], asked.algorithms[j]): SignSymmetry(
                _known(scores[:, i] - scores[:, j]), asked.estimand
            )
            for i, j in pairs(asked.algorithms)
        }
        return glance(tests, self.rules(asked.primary))

    def judged(self, metric: str) -> list[Judged]:
        """Every pair of a metric, with its verdict."""
        if metric not in self._judged:
            self._judged[metric] = judge(self._contrasts(self.scores(metric)), self.rules(metric))
        return self._judged[metric]

    def _contrasts(self, scores: Floats) -> dict[Pair, Contrast]:
        names = self.question.algorithms
        return {(names[i], names[j]): self._contrast(scores[:, i], scores[:, j]) for i, j in pairs(names)}

    def _contrast(self, a: Floats, b: Floats) -> Contrast:
        asked, unit = self.question, unit_of(a, b)
        if unit != 1.0:
            return Scaled(self._contrast(a / unit, b / unit), unit)
        if asked.design == "split":
            level = asked.alpha / len(pairs(asked.algorithms))
            return unpaired(_known(a), _known(b), asked.estimand, level, asked.seed)
        if asked.is_sequential:
            return SignSymmetry(_known((a - b)[self._order]), asked.estimand)
        differences = _known(a - b)
        if asked.test_over_train is not None:
            return folds(differences, asked.test_over_train)
        return paired(differences, asked.estimand, asked.method, asked.seed)

    @cached_property
    def _order(self) -> list[int]:
        """Items in the order in which they came."""
        return list(dict.fromkeys(trial.item for trial in self.results.planned))

    @cached_property
    def failure_rates(self) -> dict[str, float]:
        """Share of the trials of each algorithm that failed; 0 where there was none."""
        whose, names = self.results.algorithms, self.question.algorithms
        trials = np.bincount(whose, minlength=len(names))
        failed = np.bincount(whose[self.results.is_failed], minlength=len(names))
        rates = failed / np.maximum(trials, 1)
        return dict(zip(names, rates.tolist(), strict=True))

    @cached_property
    def leader(self) -> str | None:
        """Who beats every other one on the primary metric, its failures aside."""
        asked = self.question
        return winner(self.judged(asked.primary), asked.algorithms, asked.is_sequential)

    @cached_property
    def winner(self) -> str | None:
        """The leader; where it fails too often, only if it also wins with the worst score for each failure."""
        leader, asked = self.leader, self.question
        if leader is None or self.failure_rates[leader] <= asked.max_failure_rate:
            return leader
        rules, scores = self.rules(asked.primary), self.scores(asked.primary)
        filled = imputed(scores, self.results.has_trials(), rules.is_lower_better)
        found = winner(judge(self._contrasts(filled), rules), asked.algorithms, asked.is_sequential)
        return leader if found == leader else None

    def mean(self, metric: str, algorithm: int) -> tuple[float, Interval]:
        """Mean score of an algorithm, and its t interval at ``1 - alpha``; endless for one item, NaN for none."""
        values = self.scores(metric)[:, algorithm]
        return mean_interval(values, 1.0 - self.question.alpha, self.question.test_over_train)

    def ranks(self, metric: str) -> Floats:
        """Average rank of each algorithm, 1 the best; where they saw different items, the rank of its mean."""
        is_lower, scores = metric in self.question.lower_is_better, self.scores(metric)
        if self.question.design == "split":
            known = [column[np.isfinite(column)] for column in scores.T]
            scores = np.array([[float(np.mean(column)) if len(column) else np.nan for column in known]])
        return ranks.average_ranks(scores, is_lower)

    def omnibus(self, metric: str) -> Omnibus | None:
        """Friedman's test, Kruskal and Wallis' where items are split; None for two algorithms, or folds."""
        scores = self.scores(metric)
        if scores.shape[1] < 3 or self.question.test_over_train is not None:
            return None
        return ranks.kruskal(list(scores.T)) if self.question.design == "split" else ranks.friedman(scores)

    def critical_difference(self, metric: str) -> float:
        """The Nemenyi distance of average ranks; NaN where the ranks are not of shared, independent items."""
        if self.question.design == "split" or self.question.test_over_train is not None:
            return float("nan")
        scores = self.scores(metric)
        complete = int(np.sum(np.all(np.isfinite(scores), axis=1)))
        return ranks.nemenyi_distance(scores.shape[1], complete, self.question.alpha)

    def items_needed(self, metric: str, effect: float, power: float) -> int:
        """Items of which the tests of all pairs find a difference of that size; as of ``Report.power``.

        Raises
        ------
        ComparisonError
            If no two items tell how much scores vary.
        """
        asked, scores = self.question, self.scores(metric)
        both = pairs(asked.algorithms)
        alpha, ranked = asked.alpha / len(both), RANKS if asked.estimand == "median" else 1.0
        spreads = [_spread(scores[:, i], scores[:, j], asked.design == "split") for i, j in both]
        spread = max((found for found in spreads if found is not None), default=None)
        if spread is None:
            raise ComparisonError("power() needs two items at least that tell how much scores vary. Compare on more.")
        if asked.design == "split":
            return math.ceil(ranked * each_needed(effect, spread, power, alpha)) * len(asked.algorithms)
        return math.ceil(ranked * pairs_needed(effect, spread, power, alpha))


def _known(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _spread(a: Floats, b: Floats, is_split: bool) -> float | None:
    """Standard deviation of the differences, or of one side; None where fewer than two items tell it."""
    unit = unit_of(a, b)
    a, b = a / unit, b / unit
    if is_split:
        a, b = _known(a), _known(b)
        return unit * math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2.0) if min(len(a), len(b)) > 1 else None
    differences = _known(a - b)
    return unit * float(np.std(differences, ddof=1)) if len(differences) > 1 else None


def mean_interval(values: Floats, level: float, test_over_train: float | None = None) -> tuple[float, Interval]:
    """Mean of the finite values, and its t interval: of folds, the corrected one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), Interval(float("nan"), float("nan"))
    if (unit := unit_of(known)) != 1.0:
        mean, (low, high) = mean_interval(known / unit, level, test_over_train)
        return unit * mean, Interval(unit * low, unit * high)
    mean = float(np.mean(known))
    if len(known) == 1:
        return mean, Interval(float("-inf"), float("inf"))
    if is_constant(known):
        return mean, Interval(mean, mean)
    found = paired_t(known) if test_over_train is None else corrected_t(known, test_over_train)
    return mean, found.interval(level)
