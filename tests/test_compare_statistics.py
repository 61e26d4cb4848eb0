"""The statistics of ``cf.compare``, on arrays: equal to scipy's where it is the same test, and to textbook figures."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from celeryflow.compare.adjust import adjusted
from celeryflow.compare.brunnermunzel import BrunnerMunzel
from celeryflow.compare.choice import folds, paired, unpaired
from celeryflow.compare.contrast import Contrast, Interval
from celeryflow.compare.ranks import average_ranks, friedman, kruskal, nemenyi_distance
from celeryflow.compare.signedrank import SignedRank
from celeryflow.compare.signflip import SignFlip
from celeryflow.compare.student import corrected_t, paired_t, welch
from celeryflow.compare.studentized import PermutedBrunnerMunzel, PermutedWelch
from celeryflow.compare.verdicts import Rules, judge, winner

CLOSE = {"rel": 1e-9, "abs": 1e-12}

# Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", table 6: AUC of C4.5,
# C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)

# Student (1908), "The probable error of a mean": further hours of sleep by two drugs, of ten patients.
SLEEP_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def normal(n: int, mean: float = 0.4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


# --- the same test as scipy's ---------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 30, 100])
def test_the_paired_t_test_is_scipys(n: int) -> None:
    a, b = normal(n, 0.5, 1), normal(n, 0.0, 2)
    found, known = paired(a - b), stats.ttest_rel(a, b)
    assert found.p_value() == pytest.approx(known.pvalue, **CLOSE)
    assert found.interval(0.95) == pytest.approx(known.confidence_interval(0.95), **CLOSE)
    assert found.p_greater(0.2) == pytest.approx(stats.ttest_1samp(a - b, 0.2, alternative="greater").pvalue, **CLOSE)
    assert found.p_less(0.2) == pytest.approx(stats.ttest_1samp(a - b, 0.2, alternative="less").pvalue, **CLOSE)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (40, 25)])
def test_welchs_test_is_scipys(n: int, m: int) -> None:
    a, b = normal(n, 0.5, 1), 3.0 * normal(m, 0.0, 2)
    found, known = unpaired(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert found.p_value() == pytest.approx(known.pvalue, **CLOSE)
    assert found.interval(0.9) == pytest.approx(known.confidence_interval(0.9), **CLOSE)


@pytest.mark.parametrize("decimals", [9, 1])
def test_the_signed_rank_test_is_scipys_with_and_without_ties(decimals: int) -> None:
    differences = normal(30).round(decimals)
    found = paired(differences, "median")
    assert found.p_value() == pytest.approx(stats.wilcoxon(differences).pvalue, **CLOSE)


def test_the_brunner_munzel_test_is_scipys() -> None:
    a, b = normal(20, 0.5, 1), normal(30, 0.0, 2)
    found = unpaired(a, b, "median")
    assert found.p_value() == pytest.approx(stats.brunnermunzel(a, b).pvalue, **CLOSE)
    assert found.p_greater(0.0) == pytest.approx(stats.brunnermunzel(a, b, alternative="greater").pvalue, **CLOSE)


@pytest.mark.filterwarnings("ignore:p-value cannot be estimated:RuntimeWarning")  # of samples that are apart
def test_the_permuted_brunner_munzel_test_is_scipys_statistic_over_all_deals() -> None:
    a, b = normal(5, 0.5, 1), normal(4, 0.0, 2)
    with np.errstate(all="ignore"):
        known = stats.permutation_test(
            (a, b), lambda a, b, axis: -stats.brunnermunzel(a, b, axis=axis).statistic, n_resamples=np.inf
        )
    assert PermutedBrunnerMunzel(a, b).p_value() == pytest.approx(known.pvalue, **CLOSE)


def test_the_permuted_brunner_munzel_test_keeps_its_level_where_the_t_quantiles_do_not() -> None:
    values = normal(8)
    deals = [np.array(of_a) for of_a in itertools.combinations(range(8), 4)]
    sides = [(values[of_a], np.delete(values, of_a)) for of_a in deals]
    assert 0 < np.mean([PermutedBrunnerMunzel(a, b).p_value() <= 0.05 for a, b in sides]) <= 0.05
    assert np.mean([BrunnerMunzel(a, b).p_value() <= 0.05 for a, b in sides]) > 0.05


@pytest.mark.parametrize(
    ("n", "level", "test"), [(14, 0.05, "permutation"), (15, 0.05, ""), (29, 0.003, "permutation")]
)
def test_few_values_and_small_levels_get_the_permuted_brunner_munzel_test(n: int, level: float, test: str) -> None:
    found = unpaired(normal(n), normal(30, 0.0, 2), "median", level)
    assert found.test == f"Brunner-Munzel {test}".strip()
    low, high = found.interval(1 - level)
    assert low < found.difference < high
    assert (found.p_value() <= level) == (not low <= 0 <= high)


@pytest.mark.filterwarnings("ignore:Precision loss occurred:RuntimeWarning")  # of deals whose sides are constant
def test_the_permuted_welch_test_is_scipys_statistic_over_all_deals() -> None:
    a, b = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0])
    with np.errstate(all="ignore"):
        known = stats.permutation_test(
            (a, b),
            lambda a, b, axis: np.nan_to_num(
                stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic, posinf=np.inf
            ),
            n_resamples=np.inf,
        )
    found = unpaired(a, b)
    assert (found.test, found.estimand) == ("Welch t permutation", "mean")
    assert "are alike" in found.notes[0]
    assert found.p_value() == pytest.approx(known.pvalue, **CLOSE)


@given(st.integers(0, 10**6), st.integers(6, 12), st.integers(6, 12), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_the_permuted_welch_test_holds_what_it_does_not_reject(
    seed: int, n: int, m: int, level: float
) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 3, n).astype(float), random.integers(0, 3, m).astype(float)
    found = PermutedWelch(a, b)
    assume(np.ptp(a) + np.ptp(b) > 0)
    low, high = found.interval(level)
    assert (found.p_value() > 1 - level) == (low <= 0 <= high)
    for end, outside, p in ((low, -1e-6, found.p_greater), (high, 1e-6, found.p_less)):
        if math.isfinite(end):
            assert p(end + outside) <= (1 - level) / 2 < p(end - outside)


def test_the_permuted_welch_test_is_the_same_however_large_what_all_values_have_in_common_is() -> None:
    a, b = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    known, far = PermutedWelch(a, b), PermutedWelch(a + 1e10, b + 1e10)
    assert 0 < known.p_value() < 1
    assert (far.p_value(), far.interval(0.9)) == (known.p_value(), known.interval(0.9))


def test_many_values_that_are_alike_get_welchs_test() -> None:
    assert unpaired(np.tile([0.0, 1.0], 15), np.tile([0.0, 1.0, 1.0], 10)).test == "Welch t"


def test_the_exact_sign_flip_test_is_scipys() -> None:
    differences = normal(9)
    known = stats.permutation_test(
        (differences,), lambda d, axis: np.mean(d, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    found = paired(differences, "mean", "permutation")
    assert found.p_value() == pytest.approx(known.pvalue, **CLOSE)


def test_sign_flips_that_are_drawn_come_close_to_all_of_them() -> None:
    differences = normal(13)
    all_of_them, drawn = SignFlip(differences), SignFlip(np.append(differences, [0.0, 0.0]), seed=3)
    assert drawn.p_value() == pytest.approx(all_of_them.p_value(), abs=0.02)


def test_friedmans_and_kruskals_tests_are_scipys() -> None:
    scores = np.random.default_rng(3).normal([0.0, 0.5, 1.0], 1.0, (20, 3))
    known = stats.friedmanchisquare(*scores.T)
    assert friedman(scores)[1:] == pytest.approx((known.statistic, known.pvalue, 20, 3), **CLOSE)
    split = stats.kruskal(*scores.T)
    assert kruskal(list(scores.T))[1:] == pytest.approx((split.statistic, split.pvalue, 60, 3), **CLOSE)


def test_benjamini_and_hochbergs_p_values_are_scipys() -> None:
    p_values = [0.001, 0.2, 0.03, 0.04]
    assert adjusted(p_values, "bh") == pytest.approx(stats.false_discovery_control(p_values), **CLOSE)


# --- published figures -----------------------------------------------------------------------


def test_the_sleep_data_have_the_published_t_test() -> None:
    found = paired_t(SLEEP_1 - SLEEP_2)
    assert found.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert found.p_value() == pytest.approx(0.002833, abs=5e-7)
    assert found.interval(0.95) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_the_sleep_data_have_the_published_welch_test() -> None:
    found = welch(SLEEP_1, SLEEP_2)
    assert (found.statistic, found.freedom) == pytest.approx((-1.8608, 17.776), abs=5e-4)
    assert found.p_value() == pytest.approx(0.07939, abs=5e-6)
    assert found.interval(0.95) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_four_classifiers_on_14_data_sets_have_the_published_ranks_and_distance() -> None:
    assert average_ranks(DEMSAR, is_lower_better=False) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert nemenyi_distance(4, 14, 0.05) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert nemenyi_distance(4, 14, 0.10) == pytest.approx(1.12, abs=5e-3)


def test_the_published_classifiers_differ_by_friedmans_test() -> None:
    """Demsar gives 9.28 without a correction for ties; scipy corrects."""
    ranks = average_ranks(DEMSAR, is_lower_better=False)
    uncorrected = 12 * 14 / (4 * 5) * (np.sum(ranks**2) - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    assert friedman(DEMSAR).statistic > uncorrected


def test_hollander_and_wolfes_depression_scores_have_the_published_estimate_and_interval() -> None:
    """Hollander and Wolfe (1999), table 3.1 and examples 3.1 to 3.4."""
    x = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    y = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    found = SignedRank(y - x)
    assert found.p_less(0.0) == pytest.approx(0.0195, abs=5e-5)
    assert found.difference == pytest.approx(-0.46, abs=5e-4)
    assert found.interval(1 - 0.04) == pytest.approx((-0.786, -0.010), abs=5e-4)


def test_holms_p_values_are_stepped_and_never_fall() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.005], "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([0.9, 0.8], "holm") == pytest.approx([1.0, 1.0])


def test_the_corrected_t_test_widens_by_shared_data() -> None:
    """Nadeau and Bengio (2003): with test folds a quarter of what is trained on, and ten of them, s**2 (1/10 + 1/4)."""
    differences = normal(10)
    found = corrected_t(differences, 0.25)
    assert found.error == pytest.approx(np.std(differences, ddof=1) * math.sqrt(0.1 + 0.25))
    assert found.freedom == 9


# --- p values and intervals are about one estimand -------------------------------------------


def contrasts(n: int, seed: int) -> list[Contrast]:
    random = np.random.default_rng(seed)
    d, a, b = random.normal(0.5, 1.0, n), random.exponential(2.0, n), random.exponential(1.0, n + 2)
    return [paired_t(d), SignFlip(d), SignedRank(d), welch(a, b), BrunnerMunzel(a, b), corrected_t(d, 0.25)]


@settings(max_examples=8, deadline=None)
@given(st.integers(6, 25), st.integers(0, 10**6), st.sampled_from([0.9, 0.95, 0.99]))
def test_an_interval_leaves_zero_out_exactly_where_its_test_rejects(n: int, seed: int, level: float) -> None:
    for found in contrasts(n, seed):
        low, high = found.interval(level)
        assert low <= found.difference <= high
        assert (found.p_value() <= 1.0 - level + 1e-12) == (not low <= 0.0 <= high), found.test


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_of_tied_differences_leaves_zero_out_where_its_test_rejects(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = SignedRank(np.round(random.normal(0.5, 1.0, 20)) - np.round(random.normal(0.0, 1.0, 20)))
    low, high = found.interval(0.95)
    assert (found.p_value() <= 0.05) == (not low <= 0.0 <= high)


@settings(max_examples=5, deadline=None)
@given(st.integers(6, 20), st.integers(0, 10**6))
def test_the_one_sided_tests_reject_at_the_ends_of_an_interval(n: int, seed: int) -> None:
    for found in contrasts(n, seed):
        low, high = found.interval(0.9)
        if math.isfinite(low):
            assert found.p_greater(low - 1e-9) <= 0.05 + 1e-6, found.test
            assert found.p_less(high + 1e-9) <= 0.05 + 1e-6, found.test


@pytest.mark.parametrize("shift", [-1.0, 0.25, 3.0])
def test_values_that_move_together_move_estimate_and_interval(shift: float) -> None:
    d, b = normal(12), normal(9, seed=5)
    for before, after in [
        (paired_t(d), paired_t(d + shift)),
        (SignFlip(d), SignFlip(d + shift)),
        (SignedRank(d), SignedRank(d + shift)),
        (BrunnerMunzel(d, b), BrunnerMunzel(d + shift, b)),
    ]:
        assert after.difference == pytest.approx(before.difference + shift)
        assert after.interval(0.95) == pytest.approx([end + shift for end in before.interval(0.95)])


def test_effects_have_the_sign_of_the_difference_and_lie_in_their_intervals() -> None:
    for found in contrasts(20, 4):
        name, size, low, high = found.effect(0.95)
        assert low < size < high, name
        assert np.sign(size) == np.sign(found.difference), name


def test_the_interval_of_cohens_d_holds_its_noncentralities() -> None:
    """Under its ends, the t seen is the 97.5 % and the 2.5 % quantile of the noncentral t."""
    found = paired_t(normal(20))
    _, _, low, high = found.effect(0.95)
    ends = [stats.nct.cdf(found.statistic, 19, end * math.sqrt(20)) for end in (low, high)]
    assert ends == pytest.approx([0.975, 0.025], abs=1e-6)


# --- few, equal and no values ----------------------------------------------------------------


def test_fewer_than_six_pairs_get_the_paired_t_and_a_note() -> None:
    found = paired(normal(5), "median")
    assert (found.test, found.estimand) == ("paired t", "mean")
    assert "5 pairs only" in found.notes[0]


@pytest.mark.parametrize("estimand", ["mean", "median"])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 30])
@pytest.mark.parametrize("value", [0.0, 0.1, -2.0])
def test_differences_that_do_not_vary_are_defined(estimand: str, n: int, value: float) -> None:
    found = paired(np.full(n, value), estimand)
    assert found.estimand == estimand
    assert found.notes
    known = 1.0 if n < 2 or value == 0 else 2.0 ** (1 - n)
    assert found.p_value() == known
    low, high = found.interval(0.95)
    assert (low, high) == ((value, value) if n >= 6 else (-math.inf, math.inf))
    assert len(found.effect(0.95)) == 4


def test_few_differences_that_are_mostly_alike_get_sign_flips() -> None:
    found = paired(np.array([1.0, 1.0, 0.0, -1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]))
    assert (found.test, found.estimand) == ("sign-flip permutation", "mean")
    assert "are alike" in found.notes[0]
    assert found.p_value() == stats.binomtest(1, 7).pvalue
    assert paired(np.tile([1.0, 0.0, -1.0], 10)).test == "paired t"


def test_rounding_is_no_variance() -> None:
    differences = np.array([0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4, 0.1, 0.1, 0.1, 0.1])
    assert np.ptp(differences) > 0
    assert paired(differences).p_value() == 2.0**-6


def test_samples_that_are_apart_are_counted_by_their_order() -> None:
    found = unpaired(np.arange(6.0) + 10, np.arange(6.0), "median")
    assert found.p_value() == 2 / math.comb(12, 6)
    assert found.interval(0.95).low > 0


@pytest.mark.parametrize("estimand", ["mean", "median"])
def test_samples_that_do_not_vary_are_defined(estimand: str) -> None:
    same, apart = unpaired(np.ones(8), np.ones(8), estimand), unpaired(np.ones(8) * 2, np.ones(8), estimand)
    assert same.p_value() == 1.0
    assert apart.p_value() == 2 / math.comb(16, 8)
    assert (same.interval(0.95), apart.interval(0.95)) == ((0.0, 0.0), (1.0, 1.0))
    assert same.estimand == apart.estimand == estimand
    assert unpaired(np.ones(1), np.ones(8), estimand).p_value() == 1.0
    assert math.isnan(unpaired(np.ones(0), np.ones(8), estimand).difference)


def test_folds_that_differ_alike_conclude_nothing() -> None:
    assert folds(np.full(10, 0.3), 0.25).p_value() == 1.0


# --- verdicts --------------------------------------------------------------------------------


def verdict(differences: np.ndarray, **rules: object) -> str:
    return judge({("a", "b"): paired(differences)}, Rules(**rules))[0].verdict  # type: ignore[arg-type]


def test_the_verdict_of_one_pair() -> None:
    large, small, none = normal(40, 2.0), 0.01 * normal(40, 0.0), normal(40, 0.0)
    rope = Interval(-0.5, 0.5)
    assert verdict(large) == "better"
    assert verdict(-large) == "worse"
    assert verdict(large, is_lower_better=True) == "worse"
    assert verdict(small, rope=rope) == "equivalent"
    assert verdict(none) == "inconclusive"
    assert verdict(large, rope=rope) == "better"
    assert verdict(large, rope=Interval(-1.9, 1.9)) == "inconclusive"


def test_a_difference_that_is_sure_and_too_small_to_matter_is_equivalent() -> None:
    differences = 0.1 + 0.01 * normal(40, 0.0)
    assert verdict(differences) == "better"
    assert verdict(differences, rope=Interval(-0.5, 0.5)) == "equivalent"


def test_equivalent_is_the_interval_of_1_minus_2_alpha_inside_the_rope() -> None:
    differences = normal(30, 0.1)
    low, high = paired(differences).interval(0.9)
    assert verdict(differences, rope=Interval(low - 1e-9, high + 1e-9)) == "equivalent"
    assert verdict(differences, rope=Interval(low - 1e-9, high - 1e-9)) == "inconclusive"


def test_intervals_and_p_values_are_of_the_whole_family() -> None:
    tests = {pair: paired(normal(20, 0.5, seed)) for seed, pair in enumerate(itertools.combinations("abcd", 2))}
    found = judge(tests, Rules(alpha=0.06))
    for pair in found:
        assert pair.interval == pair.contrast.interval(0.99)
        assert pair.p_adjusted >= pair.p_value
    assert [pair.p_adjusted for pair in found] == pytest.approx(
        adjusted([test.p_value() for test in tests.values()], "holm")
    )


def test_the_effect_favours_a_where_its_lower_score_is_the_better_one() -> None:
    (pair,) = judge({("a", "b"): paired(normal(20, -1.0))}, Rules(is_lower_better=True))
    assert pair.contrast.difference < 0 < pair.effect.low < pair.effect.size < pair.effect.high
    assert pair.verdict == "better"


def test_the_winner_beats_every_other() -> None:
    far, near = normal(30, 3.0), normal(30, 0.0)
    tests = {("a", "b"): paired(far), ("a", "c"): paired(far), ("b", "c"): paired(near)}
    assert winner(judge(tests, Rules()), "abc") == "a"
    assert winner(judge({**tests, ("a", "c"): paired(near)}, Rules()), "abc") is None


def test_ranks_share_ties_and_leave_out_what_is_incomplete() -> None:
    scores = np.array([[1.0, 1.0, 2.0], [3.0, 1.0, 2.0], [np.nan, 5.0, 5.0]])
    assert average_ranks(scores, is_lower_better=True) == pytest.approx([2.25, 1.25, 2.5])
    assert np.isnan(average_ranks(scores[2:], is_lower_better=True)).all()
    assert friedman(np.ones((5, 3))).p_value == 1.0
