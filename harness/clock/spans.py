"""The referee's clock: named spans, and the budgets that they add up to [A1-TRAIN-CLOCK, A2-EVAL-CLOCK].

The submission's own clock never counts. A machine that slept, or whose calendar was set while a span ran, gives times
that nobody can trust: the run is void then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.config.tracks import Track
from harness.errors import CouldNotCheck
from harness.record.predicate import BudgetEntry, SpanEntry

SUSPEND_TOLERANCE_S = 0.05
CALENDAR_TOLERANCE_S = 5.0
READ_WITHIN_NS = 1_000_000  # the three clocks are read together when no more than this passes meanwhile
READ_TRIES = 100
FAR_NS = 2**62
IDLE_FROM_NS = 10_000_000  # a shorter pause between two spans is not listed


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


@dataclass(frozen=True)
class _Instant:
    """All three clocks, read together."""

    monotonic: int
    boottime: int
    calendar: int


class Ledger:
    """All spans of one run, in order.

    earlier: spans of the same run before the referee was interrupted; new ones come after them
    """

    def __init__(self, clocks: Clocks | None = None, earlier: Sequence[SpanEntry] = ()) -> None:
        self._clocks = clocks or Clocks()
        self._earlier = list(earlier)
        self._spans: list[Span] = []
        self._running: list[Span] = []
        self._last = self._read()
        self._origin_ns = self._last.monotonic

    @contextmanager
    def span(self, name: str, limit_s: float | None = None, budget: str = "") -> Iterator[Span]:
        """Time the ``with`` block. ``budget`` is "train", "eval" or "" for none.

        Raises ``CouldNotCheck`` at its start or end when the machine slept or its calendar jumped since the last one.
        """
        self._check(f"before {name!r}")
        started = self._last
        span = Span(name, limit_s, budget, self._clocks.monotonic())
        self._running.append(span)
        try:
            yield span
        finally:
            self._running.remove(span)
            span.end_ns = self._clocks.monotonic()
            self._spans.append(span)
        self._last = started  # spans that ran inside this one were looked at by themselves
        self._check(f"during {name!r}")

    @property
    def running_s(self) -> float:
        """How long the innermost span has been running; 0 between spans."""
        return (self._clocks.monotonic() - self._running[-1].start_ns) / 1e9 if self._running else 0.0

    def _read(self) -> _Instant:
        """The three clocks of one moment: a pause between two of them would look like sleep, so it is read again.

        On a machine so busy that no reading is undisturbed, the one that took least time counts.
        """
        narrowest, best = FAR_NS, None
        for _ in range(READ_TRIES):
            started = self._clocks.monotonic()
            boottime, calendar = self._clocks.boottime(), self._clocks.calendar()
            took = self._clocks.monotonic() - started
            if best is None or took < narrowest:
                narrowest, best = took, _Instant(started, boottime, calendar)
            if took <= READ_WITHIN_NS:
                break
        assert best is not None
        return best

    def _check(self, when: str) -> None:
        """Refuse a machine that slept, or whose calendar was set, since the last look."""
        before, self._last = self._last, self._read()
        passed_s = (self._last.monotonic - before.monotonic) / 1e9
        slept_s = (self._last.boottime - before.boottime) / 1e9 - passed_s
        jumped_s = (self._last.calendar - before.calendar) / 1e9 - passed_s - max(0.0, slept_s)
        if slept_s > SUSPEND_TOLERANCE_S:
            raise CouldNotCheck(
                f"the machine slept {slept_s:.1f} s {when}; its clocks are void.",
                remedy="Keep the machine awake and run again.",
            )
        if abs(jumped_s) > CALENDAR_TOLERANCE_S:
            raise CouldNotCheck(
                f"the machine's calendar jumped by {jumped_s:+.1f} s {when}; its clocks are void.",
                remedy="Let time synchronisation settle and run again.",
            )

    def entries(self) -> list[SpanEntry]:
        """The ended spans by start, in seconds since the ledger was opened, with the idle time between them.

        A run that was resumed has a span ``resumed`` of no length where the referee came back.
        """
        offset_s = max((entry.start_s + entry.seconds for entry in self._earlier), default=0.0)
        found = list(self._earlier)
        if self._earlier:
            found.append(SpanEntry("resumed", offset_s, 0.0, None, ""))
        free_ns = self._origin_ns
        for span in sorted(self._spans, key=lambda span: span.start_ns):
            if span.start_ns - free_ns > IDLE_FROM_NS:
                found.append(self._entry("idle", free_ns, span.start_ns, offset_s))
            found.append(self._entry(span.name, span.start_ns, span.end_ns, offset_s, span.limit_s, span.budget))
            free_ns = max(free_ns, span.end_ns)
        return found

    def _entry(
        self, name: str, start_ns: int, end_ns: int, offset_s: float, limit_s: float | None = None, budget: str = ""
    ) -> SpanEntry:
        start_s = offset_s + (start_ns - self._origin_ns) / 1e9
        return SpanEntry(name, start_s, (end_ns - start_ns) / 1e9, limit_s, budget)

    def used_s(self, budget: str) -> float:
        """Seconds of the spans that count in ``budget``, "train" or "eval"."""
        return sum(entry.seconds for entry in self.entries() if entry.budget == budget)

    def budgets(self, track: Track) -> list[BudgetEntry]:
        """The train and the eval budget, with what is used of them."""
        limits = {"train": track.limits.train_s, "eval": track.limits.eval_s}
        return [BudgetEntry(name, self.used_s(name), limit) for name, limit in limits.items()]
