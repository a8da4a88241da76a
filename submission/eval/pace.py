"""How many epochs the rest of the clock affords."""

from __future__ import annotations

import time

RESERVE = 0.06  # share of the clock kept free


class Pace:
    """Measured seconds a token of scoring and of one epoch, against the eval clock."""

    def __init__(self, eval_s: float, total_targets: int) -> None:
        self._limit_s, self._total = eval_s, total_targets
        self.restart()

    def restart(self) -> None:
        """Forget the measurements; the clock starts with the first scored chunk."""
        self._start: float | None = None
        self._tokens = 0
        self._score_s = self._epoch_s = 0.0
        self._epoch_tokens = 0
        self._last_tokens = 0

    def scored(self, seconds: float, tokens: int) -> None:
        """A chunk of ``tokens`` took ``seconds`` to score."""
        if self._start is None:
            self._start = time.monotonic() - seconds
        self._tokens += tokens
        self._last_tokens = tokens
        self._score_s += seconds

    def adapted(self, seconds: float, epochs: int) -> None:
        """The last chunk's adaptation of ``epochs`` epochs took ``seconds``."""
        self._epoch_s += seconds
        self._epoch_tokens += epochs * self._last_tokens

    def affordable_epochs(self, epochs: int) -> int:
        """The most epochs, at most ``epochs``, with which the rest of the tokens fits into the rest of the clock."""
        if self._start is None or not self._epoch_tokens:
            return epochs
        left_s = self._limit_s * (1 - RESERVE) - (time.monotonic() - self._start)
        left_tokens = max(0, self._total - self._tokens)
        for_adapting = left_s - left_tokens * self._score_s / self._tokens
        per_epoch = left_tokens * self._epoch_s / self._epoch_tokens
        if per_epoch <= 0:
            return epochs
        return max(0, min(epochs, int(for_adapting / per_epoch)))
