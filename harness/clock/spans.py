"""The referee's clock: named spans, and the budgets that they add up to [A1-TRAIN-CLOCK, A2-EVAL-CLOCK].

The submission's own clock never counts. A machine that slept, or whose calendar was set while a span ran, gives times
that nobody can trust: the run is void then.

The public rules do not say which spans count. A track names the reading that decides; ``READINGS`` holds those that
were argued in public, so that every run shows its seconds under each. Not covered: readings that need time inside a
span (in-loop validation, a recompile).
"""

import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.config.tracks import Track
from harness.errors import CouldNotCheck, HarnessError
from harness.record.predicate import BudgetEntry, SpanEntry

A1_TRAIN_CLOCK = "A1-TRAIN-CLOCK"
A2_EVAL_CLOCK = "A2-EVAL-CLOCK"
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


def read_clocks() -> tuple[int, int, int]:
    """Three clocks at one moment, in nanoseconds: monotonic, monotonic including sleep, and calendar.

    A pause between two of them would look like sleep, so they are read again. On a machine so busy that no reading is
    undisturbed, the one that took least time counts.
    """
    narrowest = FAR_NS, (0, 0, 0)
    for _ in range(READ_TRIES):
        moment = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        narrowest = min(narrowest, (time.monotonic_ns() - moment[0], moment))
        if narrowest[0] <= READ_WITHIN_NS:
            break
    return narrowest[1]


class Ledger:
    """All spans of one run, in order.

    earlier: spans of the same run before the referee was interrupted; new ones come after them
    """

    def __init__(self, earlier: Sequence[SpanEntry] = ()) -> None:
        self._earlier = list(earlier)
        self._spans: list[Span] = []
        self._last = read_clocks()
        self._origin_ns = self._last[0]

    @contextmanager
    def span(self, name: str, limit_s: float | None = None, budget: str = "") -> Iterator[Span]:
        """Time the ``with`` block. ``budget`` is "train", "eval" or "" for none.

        Raises ``CouldNotCheck`` at its start or end when the machine slept or its calendar jumped since the last one.
        """
        self._check(f"before {name!r}")
        started = self._last
        span = Span(name, limit_s, budget, time.monotonic_ns())
        try:
            yield span
            failed = None
        except HarnessError as error:
            failed = error
        finally:
            span.end_ns = time.monotonic_ns()
            self._spans.append(span)
        self._last = started  # spans that ran inside this one were looked at by themselves
        self._check(f"during {name!r}")  # before what failed: a void clock breaks no rule
        if failed:
            raise failed

    def _check(self, when: str) -> None:
        """Refuse a machine that slept, or whose calendar was set, since the last look."""
        before, self._last = self._last, read_clocks()
        passed_s, up_s, dated_s = ((now - then) / 1e9 for now, then in zip(self._last, before, strict=True))
        slept_s = up_s - passed_s
        jumped_s = dated_s - passed_s - max(0.0, slept_s)
        if slept_s > SUSPEND_TOLERANCE_S:
            text, remedy = f"the machine slept {slept_s:.1f} s {when}", "Keep the machine awake and run again."
        elif abs(jumped_s) > CALENDAR_TOLERANCE_S:
            text = f"the machine's calendar jumped by {jumped_s:+.1f} s {when}"
            remedy = "Let time synchronisation settle and run again."
        else:
            return
        raise CouldNotCheck(f"{text}; its clocks are void.", remedy=remedy)

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
            pause = Span("idle", None, "", free_ns, span.start_ns)
            for part in (pause, span) if span.start_ns - free_ns > IDLE_FROM_NS else (span,):
                start_s = offset_s + (part.start_ns - self._origin_ns) / 1e9
                found.append(SpanEntry(part.name, start_s, part.seconds, part.limit_s, part.budget))
            free_ns = max(free_ns, span.end_ns)
        return found

    def used_s(self, budget: str) -> float:
        """Seconds of the spans that count in ``budget``, "train" or "eval"."""
        return sum(entry.seconds for entry in self.entries() if entry.budget == budget)

    def budgets(self, track: Track) -> list[BudgetEntry]:
        """The train and the eval budget, with what is used of them."""
        limits = {"train": track.limits.train_s, "eval": track.limits.eval_s}
        return [BudgetEntry(name, self.used_s(name), limit) for name, limit in limits.items()]


class ClockReading(NamedTuple):
    """One reading of a rule: the spans that count, and who reads it so (sections A1 and A2 of the public rules)."""

    rule: str
    name: str
    spans: tuple[str, ...]
    source: str


_ROWS = tomllib.loads(Path(__file__).with_name("readings.toml").read_text("utf-8"))["readings"]
READINGS = tuple(ClockReading(rule, name, tuple(spans), source) for rule, name, spans, source in _ROWS)


def read_clock(rule: str, spans: Sequence[SpanEntry]) -> list[tuple[ClockReading, float]]:
    """Seconds under each published reading of ``rule``, from the loosest to the strictest."""
    return [
        (reading, sum(span.seconds for span in spans if span.name in reading.spans))
        for reading in READINGS
        if reading.rule == rule
    ]
