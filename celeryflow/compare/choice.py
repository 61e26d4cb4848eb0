"""Which test fits the values: by estimand and design, and what is said where there are too few of them."""

from __future__ import annotations

import numpy as np

from celeryflow.compare.brunnermunzel import BrunnerMunzel
from celeryflow.compare.contrast import Contrast, Floats, Unknown, is_constant
from celeryflow.compare.signedrank import SignedRank
from celeryflow.compare.signflip import Constant, SignFlip
from celeryflow.compare.student import StudentT, corrected_t, paired_t, welch
from celeryflow.compare.studentized import PermutedBrunnerMunzel, PermutedWelch

FEW = 6
"""Below it no exact rank or permutation test of pairs can reach 0.05 (6 give 2/2**6 = 0.031): the paired t is used."""

SOME, MANY = 15, 30
"""Values from which on quantiles of t serve for Brunner and Munzel's statistic; and for what is tied, or far out."""

ALIKE = "so many of so few are alike that a t test would reject too often"
TIED = f"assumes symmetric differences; {ALIKE}"
"""What is said of permutations that nobody asked for."""

ESTIMANDS = ("mean", "median")


def paired(differences: Floats, estimand: str = "mean", method: str = "t", seed: int = 0) -> Contrast:
    """The test of paired differences.

    Parameters
    ----------
    differences : array of float, shape (n,)
        Score of a minus score of b, item by item; finite.
    estimand : {"mean", "median"}
        Paired t, or Wilcoxon's signed ranks. Fewer than 6 differences get the paired t, those that do not vary the
        sign-flip test, and so do few that take few values (`is_tied`): each with a note.
    method : {"t", "permutation"}
        Of the mean: Student's t, or the sign-flip permutation test.
    seed : int
        Of the permutations.
    """
    n = len(differences)
    if n < 2:
        return _unknown(n, differences, estimand, "cohen_dz")
    if is_constant(differences):
        return Constant(n, float(differences[0]), estimand)
    if n < FEW:
        return _noted(paired_t(differences), f"{n} pairs only: the paired t test, which takes them to be normal")
    if estimand == "median":
        return SignedRank(differences)
    if method == "permutation":
        return SignFlip(differences, seed)
    if is_tied(differences):
        return SignFlip(differences, seed, notes=(TIED,))
    return paired_t(differences)


def is_tied(differences: Floats) -> bool:
    """Whether a t test of differences would reject too often: there are under 30, and half of their sizes are repeated.

    Of 10 differences of three algorithms that score 0 or 1, the t tests reject in 6.6 % of the families at 0.05. As the
    sizes alone decide, and not the signs, the level of the sign-flip test stays what it is.
    """
    return len(differences) < MANY and are_alike(np.abs(differences))


def are_alike(values: Floats) -> bool:
    """Whether at least half of the values are repeated."""
    return 2 * len(np.unique(np.round(values / np.max(np.abs(values)), 12))) <= len(values)


def unpaired(a: Floats, b: Floats, estimand: str = "mean", level: float = 0.05, seed: int = 0) -> Contrast:
    """The test of two samples that share no items.

    Parameters
    ----------
    a, b : array of float, shapes (n,) and (m,)
        Scores; finite.
    estimand : {"mean", "median"}
        Welch's t, or Brunner and Munzel's test. Where one side has fewer than 6 it is Welch's, where neither varies
        Brunner and Munzel's, and Welch's permuted where they are few and take few values: each with a note.
    level : float
        At which the pair is judged. Quantiles of Brunner and Munzel's t are too small for fewer than 15 values of a
        side, and far out, at levels below 0.01, for fewer than 30: there its permutation test is used.
    seed : int
        Of the permutations.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        difference = np.array([np.mean(a) - np.mean(b)] if min(n, m) else [])
        return _unknown(n + m, difference, estimand, "cohen_d")
    if is_constant(a) and is_constant(b):
        note = "neither side varies, so that only the order of the values is counted"
        return BrunnerMunzel(a, b, (note,), estimand)
    if min(n, m) < FEW:
        return _noted(welch(a, b), f"{n} and {m} items only: Welch's t test, which takes them to be normal")
    if estimand == "mean":
        is_few = min(n, m) < MANY and are_alike(np.concatenate([a, b]))
        return PermutedWelch(a, b, (ALIKE,), seed) if is_few else welch(a, b)
    enough = SOME if level >= 0.01 else MANY
    return BrunnerMunzel(a, b) if min(n, m) >= enough else PermutedBrunnerMunzel(a, b, seed=seed)


def folds(differences: Floats, test_over_train: float) -> Contrast:
    """The test of scores of the same folds of a cross-validation; arguments as of `corrected_t`."""
    n = len(differences)
    if n < 2:
        return _unknown(n, differences, "mean", "cohen_dz")
    if is_constant(differences):
        note = "the scores of all folds differ alike, and folds share data: nothing is concluded from that"
        return Unknown(n, float(differences[0]), "mean", notes=(note,))
    return corrected_t(differences, test_over_train)


def _unknown(n: int, differences: Floats, estimand: str, effect: str) -> Unknown:
    seen = float(differences[0]) if len(differences) else float("nan")
    note = "one item is no sample" if len(differences) else "there is no item that both have"
    return Unknown(n, seen, estimand, effect_name=effect, notes=(note,))


def _noted(found: StudentT, note: str) -> StudentT:
    from dataclasses import replace

    return replace(found, notes=(note,))
