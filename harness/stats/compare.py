"""Is the candidate better than the baseline by more than a margin? One-sided Welch and paired t tests, and power.

Lower scores are better. The null hypothesis is mean(candidate) >= mean(baseline) - margin; a small p speaks against
it. The statistic has the sign of candidate - baseline, so an improvement is negative (as in public #1019: -11.834).
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import scipy  # its parts, which take seconds, are imported at their first use

from harness.errors import UsageError

ALPHA = 0.01  # the public rule: an improvement is shown at p < 0.01
POWER = 0.8
CONFIDENCE = 0.95
MAX_SEEDS = 1000
LARGEST = 1e150  # its square is a number
NODES, MANY = 32, 200  # of the quadrature over the share of one side; from so many seeds on that share is one half
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Summary:
    """Some values summed up. With one value there is no sample deviation and no interval: both are ``None``.

    sample_std:     divides by n - 1: the estimate of the spread of further seeds; the one to quote
    population_std: divides by n: the spread of these values alone, shown beside it under its own name
    low, high:      two-sided t interval of the mean at ``confidence``: mean ± t(n - 1) · s / √n
    """

    values: tuple[float, ...]
    mean: float
    sample_std: float | None
    population_std: float
    confidence: float
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)


def summarise(values: Sequence[float]) -> Summary:
    """Sum up ``values``, by exact sums (``math.fsum``). Raises ``UsageError`` for none, or one that is absurd."""
    if not values or not all(abs(value) < LARGEST for value in values):  # which no NaN is
        text = f"statistics need at least one value and only finite ones under {LARGEST:g}; found {list(values)}."
        raise UsageError(text, remedy="Leave out records without a score.")
    floats = tuple(float(value) for value in values)
    mean = math.fsum(floats) / len(floats)
    population = statistics.pstdev(floats)
    if len(floats) == 1:
        return Summary(floats, mean, None, population, CONFIDENCE, None, None)
    sample = statistics.stdev(floats)
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(floats) - 1)) * sample / math.sqrt(len(floats))
    return Summary(floats, mean, sample, population, CONFIDENCE, mean - half, mean + half)


@dataclass(frozen=True)
class TestResult:
    """One test. ``difference`` = mean(candidate) - mean(baseline), in the values' unit, like ``margin``.

    stds: sample deviations of candidate and baseline; of a paired test that of the differences, and 0
    """

    test: Literal["welch", "paired"]
    stds: tuple[float, float]
    margin: float
    statistic: float
    df: float
    p: float
    difference: float

    @property
    def improvement(self) -> float:
        """By how much the candidate is better than the margin asks."""
        return -self.difference - self.margin

    def beats(self, alpha: float = ALPHA) -> bool:
        """Whether the candidate is better by more than the margin at level ``alpha``."""
        return self.p < alpha

    @property
    def needed(self) -> int | None:
        """Smallest number of seeds a side that shows the improvement with the probability :data:`POWER`.

        ``None`` above :data:`MAX_SEEDS`, and for an improvement that is zero or negative: no number of seeds shows it.
        """
        counts, reached = range(2, MAX_SEEDS + 1), partial(power, self.improvement, *self.stds)
        if self.improvement <= 0 or reached(MAX_SEEDS) < POWER:
            return None
        return counts[bisect_left(counts, POWER, key=reached)]

    def __str__(self) -> str:
        return f"one-sided {self.test} test: t = {self.statistic:.3f}, df = {self.df:.3f}, p = {self.p:.3g}"


def welch(candidate: Sequence[float], baseline: Sequence[float], *, margin: float = 0.0) -> TestResult:
    """One-sided Welch test (unequal variances, sample deviations; Welch 1947, by scipy).

    Raises ``UsageError`` for fewer than two values a side, or when neither side has any spread.
    """
    new, old = _values("candidate", candidate), _values("baseline", baseline)
    if is_rounding(new, new) and is_rounding(old, old):
        text = "neither set has any spread, so no t test applies."
        raise UsageError(text, remedy="Use seeds that make a difference.")
    found = scipy.stats.ttest_ind(new + margin, old, equal_var=False, alternative="less")
    stds = float(new.std(ddof=1)), float(old.std(ddof=1))
    figures = map(float, (found.statistic, found.df, found.pvalue, new.mean() - old.mean()))
    return TestResult("welch", stds, margin, *figures)


def paired(candidate: Sequence[float], baseline: Sequence[float], *, margin: float = 0.0) -> TestResult | None:
    """One-sided paired t test over the scores of the same seeds in the same order, at least two.

    ``None`` where their differences have no spread but rounding's.
    """
    new, old = _values("candidate", candidate), _values("baseline", baseline)
    if is_rounding(new - old, old):
        return None
    found = scipy.stats.ttest_rel(new + margin, old, alternative="less")
    figures = map(float, (found.statistic, found.df, found.pvalue, new.mean() - old.mean()))
    return TestResult("paired", (float((new - old).std(ddof=1)), 0.0), margin, *figures)


def is_rounding(values: Sequence[float] | Values, scale: Sequence[float] | Values) -> bool:
    """Whether ``values`` differ by no more than rounding does at the size of ``scale``: a t test would divide by it.

    A score is a quotient of sums with a few relative rounding errors of 2e-16, so 1e-12 of it is far above all rounding
    and far under any spread that seeds give.
    """
    return float(np.ptp(values)) <= 1e-12 * max(1e-300, float(np.abs(scale).max()))


def power(improvement: float, candidate_std: float, baseline_std: float, n: int, *, alpha: float = ALPHA) -> float:
    """Probability that :func:`welch` with ``n`` seeds a side, or :func:`paired` with ``n``, gives p < ``alpha``.

    improvement: true mean(baseline) - mean(candidate) - margin, in the unit of the true deviations; n >= 2
    candidate_std, baseline_std: not both 0; for pairs the deviation of the differences, and 0
    Source: a mixture of noncentral t. Welch's degrees of freedom depend on W = A / (A + B) alone, where A and B are
    the two sums of squares over their variances, chi-squared with n - 1 degrees of freedom. W is Beta-distributed and
    independent of A + B. Given W the statistic is noncentral t with 2(n - 1) degrees of freedom up to a factor.
    """
    variances = candidate_std**2, baseline_std**2
    places, weights = np.zeros(1), np.ones(1)
    if n < MANY:
        places, weights = scipy.special.roots_jacobi(NODES, (n - 3) / 2, (n - 3) / 2)
    share = (1 + places) / 2
    first, second = variances[0] * share, variances[1] * (1 - share)
    df = (n - 1) * (first + second) ** 2 / (first**2 + second**2)
    critical = scipy.stats.t.ppf(1 - alpha, df) * np.sqrt(2 * (first + second) / sum(variances))
    reached = scipy.stats.nct.sf(critical, 2 * (n - 1), improvement / math.sqrt(sum(variances) / n))
    return float(np.dot(weights, reached) / weights.sum())


def _values(name: str, values: Sequence[float]) -> Values:
    if len(values) < 2:
        text = f"the {name} has {len(values)} value(s); a t test needs at least two."
        raise UsageError(text, remedy='Add seeds: `harness submit --seeds "1 2 3"`.')
    return np.asarray(summarise(values).values, dtype=np.float64)
