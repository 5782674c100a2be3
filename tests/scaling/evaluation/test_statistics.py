"""Statistics against exact answers."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation.statistics import (
    Curve,
    bootstrap_interval,
    expected_calibration_error,
    fit_power_law,
    pass_at_k,
    scaling_ratio,
)


@pytest.mark.parametrize(("n", "right"), [(5, 0), (5, 2), (6, 5), (6, 6), (1, 1)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_text(n, right):
    texts = [True] * right + [False] * (n - right)
    for k in range(1, n + 1):
        exact = np.mean([any(chosen) for chosen in itertools.combinations(texts, k)])
        assert pass_at_k(np.array([n]), np.array([right]), k)[0] == pytest.approx(exact, abs=1e-12)


def test_pass_at_k_is_unbiased():
    """Its mean over every possible count is 1 - (1 - p)^k, which the share of any(k of n) plugged in is not."""
    n, p = 10, 0.13
    counts = np.arange(n + 1)
    chance = stats.binom.pmf(counts, n, p)
    for k in (1, 3, 10):
        mean = float(chance @ pass_at_k(np.full(n + 1, n), counts, k))
        assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


def test_pass_at_k_of_many_texts_does_not_overflow():
    n, right, k = 2000, 3, 700
    exact = 1 - math.comb(n - right, k) / math.comb(n, k)
    assert pass_at_k(np.array([n]), np.array([right]), k)[0] == pytest.approx(exact)


@pytest.mark.parametrize(("n", "right", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_what_has_no_meaning(n, right, k):
    with pytest.raises(InvalidArgument):
        pass_at_k(np.array([n]), np.array([right]), k)


@pytest.mark.parametrize(("a", "b"), [(-2.0, -0.3), (-0.2, -0.9), (-8.0, -0.05)])
def test_a_power_law_is_found_again(a, b):
    k = 2.0 ** np.arange(10)
    law = fit_power_law(k, np.exp(a * k**b))
    assert (law.a, law.b) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
    assert law.rmse < 1e-9
    assert law.needed(law(np.array([37.0]))[0]) == pytest.approx(37.0, rel=1e-6)


def test_a_power_law_minimises_squares_not_logarithms_of_logarithms():
    """Points off the law: no law nearby is closer in coverage."""
    k = 2.0 ** np.arange(6)
    seen = np.exp(-2 * k**-0.4) + 0.02 * np.array([1, -1, 1, -1, 1, -1])
    law = fit_power_law(k, seen)
    loss = lambda a, b: np.mean((np.exp(a * k**b) - seen) ** 2)
    for da, db in itertools.product((0.99, 1.0, 1.01), repeat=2):
        assert loss(law.a, law.b) <= loss(law.a * da, law.b * db) + 1e-15


def test_a_power_law_needs_two_points_inside():
    with pytest.raises(InvalidArgument, match="strictly in"):
        fit_power_law(np.array([1, 2, 4]), np.array([0.0, 0.4, 1.0]))


def test_calibration_error_by_hand():
    confidence = np.array([0.05, 0.1, 0.95, 0.91])
    right = np.array([0, 1, 1, 1])
    # bin (0, .1]: gap |.5 - .075| of two; bin (.9, 1]: |1 - .93| of two
    assert expected_calibration_error(confidence, right) == pytest.approx((0.425 + 0.07) / 2)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0
    assert math.isnan(expected_calibration_error(np.array([]), np.array([])))


def test_the_bootstrap_interval_covers_as_often_as_it_says():
    """Coverage of the 95 % interval over 200 samples of 60 problems; percentile intervals fall a little short."""
    rng = np.random.default_rng(3)
    samples = rng.random((200, 60)) < 0.3
    intervals = [bootstrap_interval(sample, draws=400) for sample in samples]
    inside = np.mean([low <= 0.3 <= high for low, high in intervals])
    # between .90 and .97, give or take 4.9 standard errors; with half the width it would be .65
    assert 0.90 - 4.9 * (0.1 * 0.9 / 200) ** 0.5 < inside < 1
    assert bootstrap_interval(np.ones(8)) == (1.0, 1.0)


def curve(budgets, accuracy, problems=100):
    """The same problems are solved first: exact accuracies, and a bootstrap that moves both curves."""
    solved = np.arange(problems)[None] < np.round(np.array(accuracy) * problems)[:, None]
    return Curve(np.array(budgets), solved.astype(np.float64))


def test_a_shifted_curve_has_its_shift_as_scaling_ratio():
    """baseline(4 N) = reference(N): the ratio is 4 in every draw of problems, so the interval is a point."""
    reference = curve([2, 4, 8], [0.3, 0.5, 0.6])
    baseline = curve([8, 16, 32], [0.3, 0.5, 0.6])
    second, third = scaling_ratio(reference, baseline)[1:]
    assert (second.value, second.low, second.high) == pytest.approx((4, 4, 4))
    assert (third.value, third.low, third.high) == pytest.approx((4, 4, 4))
    assert str(second) == "4 (4 to 4)"


def test_between_points_the_budget_is_interpolated_in_its_logarithm():
    reference, baseline = curve([4], [0.4]), curve([4, 16], [0.3, 0.5])
    (ratio,) = scaling_ratio(reference, baseline)
    assert ratio.value == pytest.approx(2.0)  # halfway between log 4 and log 16 is log 8
    assert ratio.low < 2 < ratio.high


def test_what_is_never_matched_is_said_to_be_more():
    (above,) = scaling_ratio(curve([4], [0.9]), curve([4, 64], [0.3, 0.5]))
    assert math.isinf(above.value)
    assert math.isinf(above.high)
    assert str(above) == ">16 (>16 to >16)"
    (below,) = scaling_ratio(curve([4], [0.2]), curve([2, 64], [0.3, 0.5]))
    assert str(below) == "<=0.5 (<=0.5 to <=0.5)"


def test_an_interval_may_be_censored_where_the_value_is_not():
    problems = 40
    rng = np.random.default_rng(0)
    draw = lambda p: (rng.random((len(p), problems)) < np.array(p)[:, None]).astype(float)
    reference, baseline = (
        Curve(np.array([8]), draw([0.5])),
        Curve(np.array([8, 32]), draw([0.4, 0.52])),
    )
    (ratio,) = scaling_ratio(reference, baseline)
    assert np.isfinite(ratio.value)
    assert math.isinf(ratio.high)
    assert ">4" in str(ratio)


def test_a_dip_is_not_a_loss():
    (ratio,) = scaling_ratio(curve([4], [0.5]), curve([4, 8, 16, 32], [0.3, 0.5, 0.4, 0.6]))
    assert ratio.value == pytest.approx(2.0)


def test_curves_of_different_problems_are_not_compared():
    with pytest.raises(InvalidArgument, match="on 100 problems"):
        scaling_ratio(curve([4], [0.5]), curve([4], [0.5], problems=50))
    with pytest.raises(InvalidArgument, match="increasing"):
        curve([4, 4], [0.5, 0.6])
