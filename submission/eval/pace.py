"""How much work a chunk gets, so that every token is scored inside the eval clock.

Order of degradation: one epoch fewer at a time, then no adaptation (frozen weights), then, where windows re-read
tokens before their own, plain windows without. After each chunk the fullest level that fits is taken again, so a
machine that was busy for a while costs a few chunks their epochs and no more. The first guesses rest on a warm-up and
a chunk or two, so they are doubted as long as it is not too late to act on them: a run must not depend on their noise.
The level in force is part of the declared state; only decisions are made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

RESERVE = 0.06  # share of the clock kept free
FIRST_DOUBT = 0.25  # by which the guess after one chunk may exceed the rest of the clock; after n chunks 1/n of it


@dataclass(frozen=True)
class Plan:
    """Work for one chunk: epochs of adaptation; ``plain``: windows re-read nothing, though the full plan's do."""

    epochs: int
    plain: bool = False

    def __str__(self) -> str:
        adapting = f"{self.epochs} epochs" if self.epochs else "frozen"
        return f"{adapting}, plain windows" if self.plain else adapting


def plans(epochs: int, overlaps: bool) -> list[Plan]:
    """All levels, from the full plan to the cheapest. overlaps: windows re-read tokens, so plain ones cost less."""
    levels = [Plan(count) for count in range(epochs, -1, -1)]
    return [*levels, Plan(0, plain=True)] if overlaps else levels


class Pace:
    """Seconds a token of scoring, of one epoch and of the rest of ``adapt`` (cache, calibration, context), the latest
    chunks weighing most, against the eval clock.
    """

    def __init__(
        self, eval_s: float, total_targets: int, levels: list[Plan], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._total, self._levels, self._clock = eval_s, total_targets, levels, clock
        self._start: float | None = None
        self._running = False
        self._tokens = self._last_tokens = self._chunks = 0
        self._score_rate = self._epoch_rate = self._rest_rate = 0.0  # seconds a token
        self._learning_s, self._epochs = 0.0, 0  # of the last chunk
        self._plain_share = 1.0

    def now(self) -> float:
        """The clock that the other methods measure with, in seconds."""
        return self._clock()

    def forget(self) -> None:
        """Drop what was measured so far, because it held compilation."""
        self._score_rate = self._epoch_rate = self._rest_rate = 0.0

    def restart(self, plain_share: float = 1.0) -> None:
        """The clock starts with the next scored chunk; what the warm-up measured stays as a first guess.

        plain_share: cost of scoring plain windows over that of the plan's own windows
        """
        self._running, self._start, self._tokens, self._chunks = True, None, 0, 0
        self._plain_share = plain_share

    def scored(self, started: float, tokens: int, plan: Plan) -> None:
        """A chunk of ``tokens`` was scored under ``plan`` from ``started`` until now."""
        self._start = started if self._start is None else self._start
        self._tokens, self._last_tokens, self._chunks = self._tokens + tokens, tokens, self._chunks + 1
        self._score_rate = self._blend(self._score_rate, (self._clock() - started) / tokens / self._share(plan))

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
        cheapest_s = (left_tokens - next_tokens) * self._token_s(self._levels[-1])
        for fullest, plan in enumerate(self._levels):
            token_s = self._token_s(plan)
            likely = left_tokens * token_s <= left_s * (1 + FIRST_DOUBT / self._chunks)
            if likely and next_tokens * token_s + cheapest_s <= left_s:  # else there is no way back after it
                return fullest
        return len(self._levels) - 1

    def _token_s(self, plan: Plan) -> float:
        """Seconds a token costs under ``plan``."""
        return self._score_rate * self._share(plan) + plan.epochs * self._epoch_rate + self._rest_rate

    def _share(self, plan: Plan) -> float:
        """Cost of scoring under ``plan`` over that of the full plan."""
        return self._plain_share if plan.plain else 1.0

    @staticmethod
    def _blend(old: float, new: float) -> float:
        return new if old == 0.0 else 0.7 * old + 0.3 * new
