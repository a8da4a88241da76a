"""The learning-rate multiplier: one, then a fall to zero at the end of the steps or of the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import Config


@dataclass
class Schedule:
    """Multiplier by step and by the referee's clock.

    With ITERATIONS set the fall is by step, so that equal seeds give equal bits; the clock only guards: if the machine
    is too slow for the steps, the fall starts earlier and ``by_clock`` says that the run is not reproducible.
    With ITERATIONS = 0 the fall is by the clock alone: over the last WARMDOWN_ITERS average step times.
    """

    config: Config
    by_clock: bool = False

    def multiplier(self, step: int, elapsed_s: float, remaining_s: float) -> float:
        """Factor in [0, 1] for this step; 0 means stop."""
        c = self.config
        remaining_s -= c.train_clock_margin_s
        by_step = 1.0
        if c.iterations:
            by_step = (c.iterations - step) / max(1, c.warmdown_iters)
        by_clock = math.inf
        if step >= 2:
            by_clock = remaining_s / (elapsed_s / step * max(1, c.warmdown_iters))
        elif remaining_s <= 0:
            by_clock = 0.0
        left = min(by_step, by_clock)
        if c.iterations and by_clock < min(by_step, 1.0):
            self.by_clock = True
        left = min(1.0, max(0.0, left))
        return left if c.warmdown_shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)

    def momentum(self, step: int) -> float:
        """Muon's momentum at this step."""
        c = self.config
        part = min(1.0, step / max(1, c.muon_momentum_warmup_steps))
        return c.muon_momentum_warmup_start + part * (c.muon_momentum - c.muon_momentum_warmup_start)
