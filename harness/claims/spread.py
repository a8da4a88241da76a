"""Mean and standard deviation of rounded numbers: the printed value, and the range over all unrounded inputs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.claims.quantity import Quantity


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
    ordered = sorted(values, key=lambda v: v.value)
    corners = ([v.low for v in ordered[:cut]] + [v.high for v in ordered[cut:]] for cut in range(n + 1))
    high = max(statistics.pvariance(corner) * n for corner in corners)
    return Range(
        math.sqrt(statistics.pvariance([v.value for v in values]) * n / divisor),
        math.sqrt(_least_squares(values) / divisor),
        math.sqrt(high / divisor),
    )


def _least_squares(values: Sequence[Quantity]) -> float:
    """min over m of the summed squared distances from m to the intervals: convex in m, so a ternary search finds it."""

    def cost(point: float) -> float:
        return math.fsum(max(v.low - point, point - v.high, 0.0) ** 2 for v in values)

    left, right = min(v.low for v in values), max(v.high for v in values)
    for _ in range(200):
        third = (right - left) / 3
        if cost(left + third) <= cost(right - third):
            right -= third
        else:
            left += third
    return cost((left + right) / 2)
