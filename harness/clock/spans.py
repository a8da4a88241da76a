"""The referee's clock: named spans, and the budgets that they add up to [A1-TRAIN-CLOCK, A2-EVAL-CLOCK].

The submission's own clock never counts. A machine that slept, or whose calendar was set while a span ran, gives times
that nobody can trust: the run is void then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.config.tracks import Track
from harness.errors import CouldNotCheck
from harness.record.predicate import BudgetEntry, SpanEntry

SUSPEND_TOLERANCE_S = 0.05
CALENDAR_TOLERANCE_S = 5.0
FAR_NS = 2**62


@dataclass
class Span:
    """One stretch of time. ``start_ns`` and ``end_ns`` are monotonic; ``end_ns`` is 0 while it runs."""

    name: str
    limit_s: float | None
    budget: str
    start_ns: int
    end_ns: int = 0

    @property
    def deadline_ns(self) -> int:
        """Monotonic time at which the limit is reached; far in the future without a limit."""
        return FAR_NS if self.limit_s is None else self.start_ns + int(self.limit_s * 1e9)

    @property
    def seconds(self) -> float:
        """Length of an ended span."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Clocks:
    """Three clocks of one machine, in nanoseconds: monotonic, monotonic including sleep, and calendar."""

    monotonic: Callable[[], int] = time.monotonic_ns
    boottime: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    calendar: Callable[[], int] = time.time_ns


class Ledger:
    """All spans of one run, in order."""

    def __init__(self, clocks: Clocks | None = None) -> None:
        self._clocks = clocks or Clocks()
        self._origin_ns = self._clocks.monotonic()
        self._spans: list[Span] = []

    @contextmanager
    def span(self, name: str, limit_s: float | None = None, budget: str = "") -> Iterator[Span]:
        """Time the ``with`` block. ``budget`` is "train", "eval" or "" for none.

        Raises ``CouldNotCheck`` at its end when the machine slept or its calendar jumped meanwhile.
        """
        clocks = self._clocks
        boot, calendar = clocks.boottime(), clocks.calendar()
        span = Span(name, limit_s, budget, clocks.monotonic())
        try:
            yield span
        finally:
            span.end_ns = clocks.monotonic()
            self._spans.append(span)
        slept_s = (clocks.boottime() - boot) / 1e9 - span.seconds
        jumped_s = (clocks.calendar() - calendar) / 1e9 - span.seconds - max(0.0, slept_s)
        if slept_s > SUSPEND_TOLERANCE_S:
            raise CouldNotCheck(
                f"the machine slept {slept_s:.1f} s during {name!r}; its clocks are void.",
                remedy="Keep the machine awake and run again.",
            )
        if abs(jumped_s) > CALENDAR_TOLERANCE_S:
            raise CouldNotCheck(
                f"the machine's calendar jumped by {jumped_s:+.1f} s during {name!r}; its clocks are void.",
                remedy="Let time synchronisation settle and run again.",
            )

    def entries(self) -> list[SpanEntry]:
        """The ended spans by start, in seconds since the ledger was opened."""
        ordered = sorted(self._spans, key=lambda span: span.start_ns)
        return [
            SpanEntry(
                name=span.name,
                start_s=(span.start_ns - self._origin_ns) / 1e9,
                seconds=span.seconds,
                limit_s=span.limit_s,
                budget=span.budget,
            )
            for span in ordered
        ]

    def budgets(self, track: Track) -> list[BudgetEntry]:
        """Seconds used of the train and eval budgets, as the sum of the spans that count in each."""
        limits = {"train": track.limits.train_s, "eval": track.limits.eval_s}
        return [
            BudgetEntry(name, sum(span.seconds for span in self._spans if span.budget == name), limit)
            for name, limit in limits.items()
        ]
