"""The learning-rate multiplier: one, then a fall to zero at the end of the steps or of the clock."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from dataclasses import dataclass, field

from ..config import Config

PACE_STEPS = 20  # the median of so many step times is the pace, so that a slow step moves nothing
PACE_NEEDS = 5
LATEST_FALL = 0.5  # a run by steps is given to the clock when only so much of its fall can still be done


@dataclass
class Schedule:
    """Multiplier by step and by the referee's clock (DESIGN.md).

    by_clock: the clock took over from the steps, so the run is not reproducible; behind: steps that the device still
    has to do when the host asks for the next, whose time is spent.
    """

    config: Config
    behind: int = 0
    by_clock: bool = False
    _starts: deque[float] = field(default_factory=lambda: deque(maxlen=PACE_STEPS + 1))
    _fall: tuple[float, float] | None = None

    def multiplier(self, step: int, elapsed_s: float, remaining_s: float) -> float:
        """Factor in [0, 1] for this step, called once before each; 0 means stop."""
        c = self.config
        self._starts.append(elapsed_s)
        pace_s = self._pace_s()
        remaining_s -= c.train_clock_margin_s + self.behind * pace_s
        warmdown = max(1, c.warmdown_iters)
        planned = min(warmdown, c.iterations - step) if c.iterations else warmdown
        possible = remaining_s / pace_s if pace_s else warmdown
        left = planned / warmdown
        if not c.iterations:
            left = min(1.0, possible / warmdown)
        elif planned > 0 and self._fall is None and possible < LATEST_FALL * planned:
            self._fall = (left, remaining_s)
        if self._fall is not None:
            self.by_clock = True
            height, over_s = self._fall
            left = height * remaining_s / over_s if over_s > 0 else 0.0
        if remaining_s <= 0:
            self.by_clock, left = c.iterations > step, 0.0
        return max(0.0, left)

    def _pace_s(self) -> float:
        """Seconds a step takes now; 0 while too few are known."""
        starts = list(self._starts)
        times = [after - before for before, after in itertools.pairwise(starts)]
        return statistics.median(times) if len(times) >= PACE_NEEDS else 0.0

    def momentum(self, step: int) -> float:
        """Muon's momentum at this step."""
        c = self.config
        part = min(1.0, step / max(1, c.muon_momentum_warmup_steps))
        return c.muon_momentum_warmup_start + part * (c.muon_momentum - c.muon_momentum_warmup_start)
