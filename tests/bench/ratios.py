"""What a benchmark reports: a ratio or a figure with its unit, its spread and its target."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """low, high: smallest and largest of the pairs; limit: target; at_most: which side of it is good.

    unit: "" for a ratio; a figure with a unit says something only of a machine with nothing else to do
    """

    name: str
    value: float
    low: float
    high: float
    limit: float | None
    at_most: bool
    note: str
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]

    @property
    def value_text(self) -> str:
        return f"{self.value:.3f}" if not self.unit else f"{self.value:,.0f} {self.unit}"

    @property
    def spread_text(self) -> str:
        return f"{self.low:.3f}–{self.high:.3f}" if not self.unit else f"{self.low:,.0f}–{self.high:,.0f}"

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


def peak_bytes() -> int:
    """The most memory that this process ever held, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
