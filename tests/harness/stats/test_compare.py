"""Tests and power against definitions worked out here in plain float64, and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import UsageError
from harness.stats.compare import TestResult as Result
from harness.stats.compare import paired, power, summarise, welch
from harness.units import Text

scores = st.integers(500_000, 3_000_000).map(lambda millionths: millionths / 1e6)  # a spread above rounding


@given(st.lists(scores, min_size=2, max_size=8, unique=True))
def test_deviations_match_their_definitions(values):
    found = summarise(values)
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    assert found.mean == pytest.approx(mean, rel=1e-15)
    assert found.sample_std == pytest.approx(math.sqrt(squares / (len(values) - 1)), rel=1e-9)
    assert found.population_std == pytest.approx(math.sqrt(squares / len(values)), rel=1e-9)
    assert found.low < found.mean < found.high


def test_the_interval_is_the_tabled_one():
    found = summarise([1.0, 2.0, 3.0])
    # With two degrees of freedom the t quantile has a closed form: c·√(2 / (1 - c²)) at confidence c.
    assert found.high - found.mean == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3), rel=1e-12)


def test_one_value_has_no_sample_deviation():
    found = summarise([1.5])
    assert (found.sample_std, found.low, found.high, found.population_std) == (None, None, None, 0.0)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [1.2e308, 1.2e308]])
def test_values_without_statistics_are_refused(values):
    with pytest.raises(UsageError):
        summarise(values)


def test_welch_statistic_and_degrees_match_the_formula():
    new, old = [1.00, 1.02, 1.05, 1.01], [1.10, 1.04, 1.07]
    a, b = np.var(new, ddof=1) / 4, np.var(old, ddof=1) / 3
    result = welch(new, old, margin=0.01)
    assert result.statistic == pytest.approx((np.mean(new) + 0.01 - np.mean(old)) / math.sqrt(a + b), rel=1e-12)
    assert result.df == pytest.approx((a + b) ** 2 / (a**2 / 3 + b**2 / 2), rel=1e-12)


@given(st.lists(scores, min_size=2, max_size=5, unique=True), st.lists(scores, min_size=2, max_size=5, unique=True))
def test_a_larger_margin_never_helps_the_candidate(new, old):
    assert welch(new, old, margin=0.1).p >= welch(new, old).p


def test_pairing_removes_the_spread_that_seeds_share():
    baseline, candidate = [1.00, 1.10, 1.20], [0.990, 1.091, 1.189]
    assert paired(candidate, baseline).p < 0.01 < welch(candidate, baseline).p
    differences = np.array([-0.010, -0.009, -0.011])
    expected = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert paired(candidate, baseline).statistic == pytest.approx(expected, rel=1e-9)


def test_no_spread_and_too_few_values_are_refused():
    with pytest.raises(UsageError, match="neither set has any spread"):
        welch([1.0, 1.0], [1.1, 1.1])
    with pytest.raises(UsageError, match="baseline has 1 value"):
        welch([1.0, 1.1], [1.2])


@pytest.mark.parametrize(("stds", "n"), [((0.4, 0.4), 2), ((0.4, 0.1), 3), ((0.4, 0.0), 4), ((0.2, 0.4), 5)])
def test_power_counts_that_welch_estimates_its_degrees_of_freedom(stds: tuple[float, float], n: int):
    generator, runs = np.random.default_rng(9), 100_000
    new, old = (generator.normal(place, std, (runs, n)) for place, std in zip((-0.6, 0.0), stds, strict=True))
    found = np.mean(stats.ttest_ind(new, old, axis=1, equal_var=False, alternative="less").pvalue < 0.05)
    assert power(0.6, *stds, n, alpha=0.05) == pytest.approx(found, abs=0.005)  # over 3 binomial errors


def test_differences_that_are_equal_up_to_rounding_are_no_evidence():
    baseline = [1.2 + seed / 7 for seed in range(5)]
    candidate = [(3 * score - 0.03) / 3 for score in baseline]
    assert len({new - old for new, old in zip(candidate, baseline, strict=True)}) > 1  # by rounding alone
    assert paired(candidate, baseline) is None
    rounded = [(3 * 1.21 - x) / 3 + x / 3 for x in (0.1, 0.2, 0.3, 0.7)]
    assert len(set(rounded)) > 1
    with pytest.raises(UsageError, match="neither set has any spread"):
        welch(rounded, [1.2, 1.2])
    assert paired([score - 0.01 - 1e-6 * seed for seed, score in enumerate(baseline)], baseline).p < 1e-9


def test_power_of_pairs_matches_simulation():
    n, runs = 4, 4000
    differences = np.random.default_rng(8).normal(-0.6, 0.4, (runs, n))
    found = np.mean(stats.ttest_1samp(differences, 0.0, axis=1, alternative="less").pvalue < 0.05)
    assert power(0.6, 0.4, 0.0, n, alpha=0.05) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("stds", [(0.0007, 0.0005), (0.0007, 0.0)])
def test_seeds_needed_is_the_first_number_that_reaches_the_power(stds):
    def needed(improvement: float) -> int | None:
        return Result("welch", stds, 0.0, 0.0, 1.0, 0.5, -improvement).needed

    n = needed(0.001)
    assert power(0.001, *stds, n) >= 0.8 > power(0.001, *stds, n - 1)
    assert needed(0.0) is None
    assert needed(1e-9) is None


def test_an_empty_text_is_refused():
    with pytest.raises(UsageError):
        Text(0, 5)
