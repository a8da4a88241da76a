"""Mean, deviations and confidence interval of a few values, each estimator by its name."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError


@dataclass(frozen=True)
class Summary:
    """Some values summed up. With one value there is no sample deviation and no interval: both are ``None``.

    sample_std:     divides by n - 1: the estimate of the spread of further seeds; the one to quote
    population_std: divides by n: the spread of these values alone, shown beside it under its own name
    low, high:      two-sided t interval of the mean at ``confidence``
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


def summarise(values: Sequence[float], *, confidence: float = 0.95) -> Summary:
    """Sum up ``values`` (finite, at least one); ``confidence`` lies strictly between 0 and 1.

    Source: t interval, mean ± t(n - 1) · s / √n. Sums are exact (``math.fsum``). Raises ``UsageError`` otherwise.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise UsageError(
            f"statistics need at least one value and only finite ones; found {list(values)}.",
            remedy="Leave out records without a score.",
        )
    if not 0 < confidence < 1:
        raise UsageError(
            f"confidence is {confidence!r}; wanted a number between 0 and 1, such as 0.95.", remedy="Use 0.95."
        )
    floats = tuple(float(value) for value in values)
    mean = math.fsum(floats) / len(floats)
    population = statistics.pstdev(floats)
    if len(floats) == 1:
        return Summary(floats, mean, None, population, confidence, None, None)
    from scipy import stats

    sample = statistics.stdev(floats)
    half = float(stats.t.ppf((1 + confidence) / 2, len(floats) - 1)) * sample / math.sqrt(len(floats))
    return Summary(floats, mean, sample, population, confidence, mean - half, mean + half)
