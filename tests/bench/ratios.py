"""What a benchmark reports: a ratio, its spread and its target."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """low, high: smallest and largest of the pairs; limit: target; at_most: which side of it is good."""

    name: str
    value: float
    low: float
    high: float
    limit: float | None
    at_most: bool
    note: str

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]

    @property
    def spread_text(self) -> str:
        return f"{self.low:.3f}–{self.high:.3f}"

    @property
    def limit_text(self) -> str:
        return "" if self.limit is None else f"{'≤' if self.at_most else '≥'} {self.limit:g}"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(
    name: str, one: Callable[[], float], other: Callable[[], float], *, pairs: int, limit: float | None, note: str
) -> Ratio:
    """Least seconds of ``one`` over least seconds of ``other``, taken in turns: what a busy machine adds is left out.

    The spread is that of the single pairs.
    """
    above, below = [], []
    for _ in range(pairs):
        below.append(other())
        above.append(one())
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(name, min(above) / min(below), min(ratios), max(ratios), limit, True, f"{note}; {pairs} pairs")
