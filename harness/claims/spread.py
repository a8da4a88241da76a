"""Mean and standard deviation of rounded numbers: the printed value, and the range over all unrounded inputs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.claims.quantity import Quantity

HALVINGS = 80
"""Steps of the search: they leave 1e-14 of the range, and the sum is flat there."""


@dataclass(frozen=True)
class Range:
    """A figure as the printed inputs give it, and its smallest and largest value over what prints like them."""

    value: float
    low: float
    high: float


def mean_of(values: Sequence[Quantity]) -> Range:
    """The mean of at least one number."""
    n = len(values)
    return Range(
        math.fsum(v.value for v in values) / n,
        math.fsum(v.low for v in values) / n,
        math.fsum(v.high for v in values) / n,
    )


def std_of(values: Sequence[Quantity], *, sample: bool) -> Range:
    """The standard deviation of at least two numbers: divisor n - 1 when ``sample``, else n.

    Its largest value has every input at the end of its interval that lies away from the mean; its smallest puts each
    as near to one common point as it can be.
    """
    n = len(values)
    divisor = n - 1 if sample else n
    printed, least, most = _squares(tuple((v.value, v.low, v.high) for v in values))
    return Range(math.sqrt(printed / divisor), math.sqrt(least / divisor), math.sqrt(most / divisor))


@lru_cache(maxsize=128)
def _squares(values: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
    """Summed squared distances from the mean of (value, low, high): as printed, at least, at most."""
    return statistics.pvariance([value for value, _, _ in values]) * len(values), _least(values), _most(values)


def _most(values: Sequence[tuple[float, float, float]]) -> float:
    """The lower values at their low ends, the others at their high ones, for the best cut between them.

    Sums move by one value a cut; they are taken around the middle, to lose no digits.
    """
    n = len(values)
    middle = math.fsum(value for value, _, _ in values) / n
    ordered = [(low - middle, high - middle) for _, low, high in sorted(values)]
    total = math.fsum(high for _, high in ordered)
    squares = math.fsum(high * high for _, high in ordered)
    most = squares - total * total / n
    for low, high in ordered:
        total += low - high
        squares += low * low - high * high
        most = max(most, squares - total * total / n)
    return most


def _least(values: Sequence[tuple[float, float, float]]) -> float:
    """min over m of the summed squared distances from m to the intervals: convex in m, so a ternary search finds it."""

    def cost(point: float) -> float:
        return math.fsum(max(low - point, point - high, 0.0) ** 2 for _, low, high in values)

    left, right = min(low for _, low, _ in values), max(high for _, _, high in values)
    for _ in range(HALVINGS):
        third = (right - left) / 3
        if cost(left + third) <= cost(right - third):
            right -= third
        else:
            left += third
    return cost((left + right) / 2)
