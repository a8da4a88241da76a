"""What the audits look at: secret draws of rows over all chunks, and what the referee keeps of them during the run.

All draws follow from one secret, fixed when the submission is sealed and unknown to it. The referee keeps the state
before every chunk, so what to audit is drawn when the run is over and every score is known:

- rows drawn evenly, compared over the whole vocabulary: how many rows, and how many chunks, can leak;
- rows drawn by gain, over all chunks: what a leak is worth, however it hides. A row's weight is the most that a leak
  can have gained there: an honest score is taken to be at most ``FLOOR_NATS`` over the committed one or over the
  token's frequency, whichever is more. No submission has a hand in that;
- rows drawn by what they gain over the packed model without adaptation: far sharper, but that score is the
  submission's own, so it comes on top and bounds nothing alone;
- rows of chunks that are far cheaper than the others.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.record.predicate import ESCAPE
from harness.scoring.ledger import Chunks

FLOOR_NATS = 1.0  # the weight of a row that is no cheaper than its frequency: a leak can still have lowered it to that
OUTLIERS, OUTLIER_ROWS, OUTLIER_SIGMAS = 16, 4, 4.0
MOST_DRAWS = 20_000
Nats = npt.NDArray[np.float64]
Place = tuple[int, int]
_EVEN, _BY_GAIN, _OVER_FROZEN, _IN_OUTLIERS = 0, 1 << 40, 2 << 40, 3 << 40  # uses of the secret; 1 + chunk: its rows


def draw_rows(secret: bytes, chunk: int, count: int, each: int) -> tuple[int, ...]:
    """The rows of ``chunk`` that are audited if it is: ``each`` of its ``count``, ascending."""
    drawn = _generator(secret, 1 + chunk).choice(count, size=min(each, count), replace=False)
    return tuple(sorted(drawn.tolist()))


def frequency_nats(targets: npt.NDArray[np.integer[Any]]) -> Nats:
    """What each target costs by how often it comes in the whole stream, float64 (n,)."""
    counts = np.maximum(np.bincount(targets), 1)  # no target is a token that does not come
    nats: Nats = (np.log(len(targets)) - np.log(counts))[targets]
    return nats


@dataclass(frozen=True)
class GainSample:
    """Targets drawn with replacement, each with a chance in proportion to its weight in nats.

    targets: the drawn places in the stream, int64, repeats included; weights: theirs, float64
    nats:    mean weight over all targets of the stream
    """

    targets: npt.NDArray[np.int64]
    weights: Nats
    nats: float

    @property
    def draws(self) -> int:
        """How many were drawn."""
        return len(self.targets)

    def bound_nats(self) -> float:
        """The smallest leak, nats a token, whose rows are all missed with a probability of at most ``ESCAPE``."""
        return float(self.nats * (1.0 - ESCAPE ** (1.0 / self.draws)))

    def estimate(self, dearer: Callable[[int], float]) -> float:
        """Unbiased estimate of a sum over all targets, per target, from its value at the drawn ones.

        Source: Hansen and Hurwitz (1943), sampling with unequal probabilities.
        """
        values = np.array([dearer(target) for target in self.targets.tolist()])
        return float(self.nats * np.mean(values / self.weights))


def draws_for(escape_nats: float, mean_nats: float) -> int:
    """How many draws it takes for a leak of ``escape_nats`` a token to be missed with ``ESCAPE`` at most.

    mean_nats: mean weight of all targets
    """
    share = escape_nats / mean_nats
    return math.ceil(math.log(ESCAPE) / math.log1p(-share)) if share < 1.0 else 1


def draw_by_gain(weights: Nats, escape_nats: float, random: np.random.Generator, most: int = MOST_DRAWS) -> GainSample:
    """As many draws as it takes for a leak of ``escape_nats`` a token to be missed with ``ESCAPE`` at most.

    weights: the most that a leak can be worth at each target, float64 (n,), >= 0; most: draws, where that takes more
    """
    ends = np.cumsum(weights)
    total = float(ends[-1]) if len(ends) else 0.0
    if not total > 0:
        return GainSample(np.empty(0, np.int64), np.empty(0), 0.0)
    mean = total / len(weights)
    drawn = np.searchsorted(ends, random.random(min(draws_for(escape_nats, mean), most)) * total, side="right")
    targets = np.sort(np.minimum(drawn, len(weights) - 1))
    return GainSample(targets, weights[targets], mean)


@dataclass(frozen=True)
class Draws:
    """Everything that is audited beyond the even rows, as places in the stream.

    by_gain: over the referee's reference; over_frozen: over the packed model; outliers: rows of cheap chunks
    """

    by_gain: GainSample
    over_frozen: GainSample
    outliers: tuple[int, ...]
    outlier_chunks: tuple[int, ...]

    def targets(self) -> set[int]:
        """All drawn targets, each once."""
        return {*self.by_gain.targets.tolist(), *self.over_frozen.targets.tolist(), *self.outliers}


def draw_audits(
    nats: Nats, reference: Nats, frozen: Nats, *, chunk_tokens: int, escape_nats: float, secret: bytes
) -> Draws:
    """Draw rows over all chunks when the run is over.

    nats:      committed, float64 (n,); reference: of the same targets, by :func:`frequency_nats`
    frozen:    of the packed model without adaptation, for the first targets, (m,), m <= n; empty: not known
    """
    gains = np.maximum(reference - nats, 0.0) + FLOOR_NATS
    by_gain = draw_by_gain(gains, escape_nats, _generator(secret, _BY_GAIN))
    # how bad that model is lies in the submission's hand, and must neither draw the audits to few rows nor stretch them
    frozen = np.minimum(frozen, reference.max(initial=0.0))
    over = np.maximum(frozen - nats[: len(frozen)], 0.0)
    over_frozen = draw_by_gain(over, escape_nats, _generator(secret, _OVER_FROZEN), by_gain.draws)
    cheap = {*_cheap_chunks(nats - reference, chunk_tokens), *_cheap_chunks(nats[: len(over)] - frozen, chunk_tokens)}
    rows: list[int] = []
    for chunk in sorted(cheap):
        start = chunk * chunk_tokens
        weights = gains[start : start + chunk_tokens]
        random = _generator(secret, _IN_OUTLIERS + chunk)
        rows += (start + random.choice(len(weights), OUTLIER_ROWS, p=weights / weights.sum())).tolist()
    return Draws(by_gain, over_frozen, tuple(rows), tuple(sorted(cheap)))


def _cheap_chunks(apart: Nats, chunk_tokens: int) -> list[int]:
    """At most ``OUTLIERS`` whole chunks whose mean difference lies far under the others', the cheapest first."""
    if len(apart) < 3 * chunk_tokens:
        return []
    means = np.add.reduceat(apart, np.arange(0, len(apart), chunk_tokens))
    means /= np.diff(np.arange(0, len(apart) + chunk_tokens, chunk_tokens).clip(max=len(apart)))
    middle = float(np.median(means))
    spread = 1.4826 * float(np.median(np.abs(means - middle)))
    order = np.argsort(means)[:OUTLIERS]
    return [int(chunk) for chunk in order if means[chunk] < middle - OUTLIER_SIGMAS * spread]


def _generator(secret: bytes, use: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([int.from_bytes(secret, "little"), use]))


def rows_of(slab: torch.Tensor, first: int, wanted: Collection[int]) -> dict[int, torch.Tensor]:
    """Copies of a chunk's ``wanted`` rows, as far as a slab (rows, vocabulary) that begins at ``first`` holds them."""
    return {row: slab[row - first].clone() for row in wanted if first <= row < first + slab.shape[0]}


class Keeper:
    """The witness of the final evaluation: draws rows evenly, keeps the state before each chunk and these rows' logits.

    rows:   audited rows of each drawn chunk, ascending; at least ``positions``, each in an own chunk where that goes
    whole:  chunks that are replayed whole; secret: 32 bytes, from which all draws follow
    states: uint8 (chunks, state bytes) in host memory; logits: (vocabulary,) by (chunk, row)
    """

    def __init__(self, chunks: Chunks, *, whole: int, positions: int, secret: bytes) -> None:
        """whole: how many of the (start, count) ``chunks`` are replayed whole."""
        drawn = _generator(secret, _EVEN).choice(len(chunks), size=min(len(chunks), positions), replace=False).tolist()
        self._each = -(-positions // max(1, len(drawn)))
        self.rows = {chunk: draw_rows(secret, chunk, chunks[chunk][1], self._each) for chunk in sorted(drawn)}
        self.whole = tuple(sorted(drawn[:whole]))
        self.chunks, self.secret = chunks, secret
        self.states = torch.empty(0)
        self.logits: dict[Place, torch.Tensor] = {}
        self._device_place: torch.Tensor | None = None
        self._rows: tuple[int, ...] = ()
        self._now: dict[Place, torch.Tensor] = {}
        self._blind: bool | None = None  # to its inputs within a chunk, as far as slabs of more than one row show

    def reserve(self, state: torch.Tensor) -> None:
        """Allocate and touch memory for all copies of ``state``; call it before the clock starts."""
        self.states = torch.ones((len(self.chunks), len(state)), dtype=torch.uint8)
        self._device_place = torch.ones_like(state) if state.is_cuda else None

    def state_place(self, chunk: int) -> torch.Tensor:
        """Memory where the state is, for a copy of it as it is before ``chunk``."""
        self._rows, self._now = draw_rows(self.secret, chunk, self.chunks[chunk][1], self._each), {}
        return self.states[chunk] if self._device_place is None else self._device_place

    def slab(self, chunk: int, first_row: int, logits: torch.Tensor) -> None:
        """Copy the rows of this slab that an audit of ``chunk`` would look at: the same work for every chunk."""
        self._now |= {(chunk, row): kept for row, kept in rows_of(logits, first_row, self._rows).items()}
        if self._blind is not False and len(logits) > 1:
            self._blind = torch.equal(logits[0], logits[-1])

    def scored(self, chunk: int) -> None:
        """The chunk is over: remember what was drawn, and bring the state to the host."""
        if chunk in self.rows:
            self.logits |= self._now
        if self._device_place is not None:
            self.states[chunk].copy_(self._device_place)

    def degenerate(self) -> str:
        """In words, how the kept rows show a predictor that does not look at its inputs; empty when it does."""
        rows = list(self.logits.values())
        if not self._blind or not rows:
            return ""
        if all(bool((row == row[0]).all()) for row in rows):
            return "it gives every token the same probability"
        if all(torch.equal(rows[0], row) for row in rows[1:]):
            return "it predicts one distribution everywhere"
        return "it predicts one distribution for all rows of a chunk"
