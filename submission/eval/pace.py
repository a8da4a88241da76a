"""How many epochs a chunk gets, so that every token is scored inside the eval clock (DESIGN.md).

The level in force is part of the declared state; only decisions are made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

RESERVE = 0.06  # share of the clock kept free
FIRST_DOUBT = 0.25  # by which the guess after one chunk may exceed the rest of the clock; after n chunks 1/n of it


class Pace:
    """Seconds a token of scoring, of one epoch and of the rest of ``adapt``, against the eval clock.

    The latest chunks weigh most. levels: epochs, falling to 0.
    """

    def __init__(
        self, eval_s: float, total_targets: int, levels: Sequence[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._total, self._levels, self._clock = eval_s, total_targets, levels, clock
        self._start: float | None = None
        self._running = False
        self._tokens = self._last_tokens = self._chunks = 0
        self._score_rate = self._epoch_rate = self._rest_rate = 0.0  # seconds a token
        self._learning_s, self._epochs = 0.0, 0  # of the last chunk

    def now(self) -> float:
        """Seconds of the clock that the others measure with."""
        return self._clock()

    def forget(self) -> None:
        """Drop what was measured so far: it held compilation."""
        self._score_rate = self._epoch_rate = self._rest_rate = 0.0

    def restart(self) -> None:
        """The clock starts with the next scored chunk; what the warm-up measured stays as a first guess."""
        self._running, self._start, self._tokens, self._chunks = True, None, 0, 0

    def scored(self, started: float, tokens: int) -> None:
        """A chunk of ``tokens`` was scored from ``started`` until now."""
        self._start = started if self._start is None else self._start
        self._tokens, self._last_tokens, self._chunks = self._tokens + tokens, tokens, self._chunks + 1
        self._score_rate = self._blend(self._score_rate, (self._clock() - started) / tokens)

    def learnt(self, started: float, epochs: int) -> None:
        """The last scored chunk got ``epochs`` epochs from ``started`` until now."""
        self._learning_s, self._epochs = self._clock() - started, epochs

    def adapted(self, started: float) -> None:
        """The last scored chunk was adapted to from ``started`` until now, ``learnt`` included."""
        rest_s = self._clock() - started - self._learning_s
        self._rest_rate = self._blend(self._rest_rate, rest_s / self._last_tokens)
        if self._epochs:
            self._epoch_rate = self._blend(self._epoch_rate, self._learning_s / (self._epochs * self._last_tokens))
        self._learning_s, self._epochs = 0.0, 0

    def affordable(self, level: int) -> int:
        """The fullest level with which the other tokens fit into the rest of the clock; the last if none does.

        level: the one in force, which stays until the clock runs
        """
        if not self._running or self._start is None:
            return level
        left_s = self._limit_s * (1 - RESERVE) - (self._clock() - self._start)
        left_tokens = max(0, self._total - self._tokens)
        next_tokens = min(left_tokens, self._last_tokens)
        frozen_s = self._score_rate + self._rest_rate
        for fullest, epochs in enumerate(self._levels):
            token_s = frozen_s + epochs * self._epoch_rate
            likely = left_tokens * token_s <= left_s * (1 + FIRST_DOUBT / self._chunks)
            # else there is no way back after it
            if likely and next_tokens * token_s + (left_tokens - next_tokens) * frozen_s <= left_s:
                return fullest
        return len(self._levels) - 1

    @staticmethod
    def _blend(old: float, new: float) -> float:
        return new if old == 0.0 else 0.7 * old + 0.3 * new
