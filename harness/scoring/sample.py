"""What the audits look at: a secret sample of chunks and rows, and what the referee keeps of them during the run.

The sample is drawn from the operating system's randomness after the submission is sealed. The referee does the same
work for every chunk (copies the state into memory that is ready, copies a few rows of logits) and then remembers only
what the sample names, so that no delay tells a worker which chunks are kept.

Rows drawn evenly bound how many rows can leak, not what a leak is worth: one that peeks at the few costliest targets
alone would slip through. So as many rows again are drawn in the kept chunks when the run is over, each as likely as it
is much cheaper than the target's frequency alone explains. Of them the committed nats are compared.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

ENTROPY_BYTES = 32
SPARE_PLACES = 3
Nats = npt.NDArray[np.float64]
_BY_GAIN = 1 << 40  # the use of the entropy for draws by gain; 0 is the chunks, 1 + chunk the rows of a chunk


@dataclass(frozen=True)
class AuditSample:
    """Chunks to keep, and in each the audited rows, ascending; ``entropy`` is hex and belongs in the record."""

    rows: dict[int, tuple[int, ...]]
    entropy: str
    rows_each: int

    @property
    def positions(self) -> int:
        """Audited positions in all."""
        return sum(map(len, self.rows.values()))


def draw_sample(
    chunks: Sequence[tuple[int, int]], *, most_chunks: int, positions: int, entropy: bytes | None = None
) -> AuditSample:
    """Draw ``most_chunks`` of the (start, count) ``chunks`` and at least ``positions`` rows over them.

    More chunks are drawn where they are too small to hold the positions; all chunks and rows where there are fewer.
    ``entropy``: 32 bytes, drawn afresh when not given.
    """
    secret = entropy or os.urandom(ENTROPY_BYTES)
    random = _generator(secret, 0)
    longest = chunks[0][1] if chunks else 1
    wanted = min(len(chunks), max(most_chunks, -(-positions // longest)))
    chosen = np.sort(random.choice(len(chunks), size=wanted, replace=False, shuffle=False))
    each = -(-positions // max(1, len(chosen)))
    rows = {chunk: draw_rows(secret, chunk, chunks[chunk][1], each) for chunk in chosen.tolist()}
    return AuditSample(rows, secret.hex(), each)


def draw_rows(secret: bytes, chunk: int, count: int, each: int) -> tuple[int, ...]:
    """The rows of ``chunk`` that are audited if it is: ``each`` of its ``count``, ascending."""
    drawn = _generator(secret, 1 + chunk).choice(count, size=min(each, count), replace=False)
    return tuple(sorted(drawn.tolist()))


@dataclass(frozen=True)
class GainSample:
    """Rows of kept chunks drawn by what their targets gain over their frequency.

    rows:  chunk -> rows, ascending, each once; draws: how many were drawn, repeats included
    nats:  mean gain of all rows of the kept chunks, rows that gain nothing as 0: nats a token
    """

    rows: dict[int, tuple[int, ...]]
    draws: int
    nats: float

    def bound_nats(self, escape: float = 0.05) -> float:
        """The smallest part of ``nats`` whose rows are all missed with a probability of at most ``escape``."""
        return self.nats * (1.0 - escape ** (1.0 / self.draws)) if self.draws else 0.0


def draw_by_gain(sample: AuditSample, nats: Mapping[int, Nats], surprise: Mapping[int, Nats]) -> GainSample:
    """As many draws as ``sample`` has positions, with replacement, each row with a chance in proportion to its gain.

    nats:     chunk -> committed nats of all its rows, float64 (n,)
    surprise: chunk -> what each target costs by its frequency in the stream, nats, float64 (n,)
    """
    gains = {chunk: np.maximum(surprise[chunk] - nats[chunk], 0.0) for chunk in sorted(nats)}
    flat = np.concatenate([np.empty(0), *gains.values()])
    total = float(flat.sum())
    if not total > 0:
        return GainSample({}, 0, 0.0)
    random = _generator(bytes.fromhex(sample.entropy), _BY_GAIN)
    drawn = np.unique(random.choice(len(flat), size=sample.positions, p=flat / total))
    rows: dict[int, tuple[int, ...]] = {}
    first = 0
    for chunk, gain in gains.items():
        here = drawn[(drawn >= first) & (drawn < first + len(gain))] - first
        rows |= {chunk: tuple(here.tolist())} if len(here) else {}
        first += len(gain)
    return GainSample(rows, sample.positions, total / len(flat))


def _generator(secret: bytes, use: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([int.from_bytes(secret, "little"), use]))


@dataclass
class KeptChunk:
    """State before the chunk (uint8), original logits of its audited rows, (rows, vocabulary), and all its nats."""

    state: torch.Tensor
    logits: dict[int, torch.Tensor] = field(default_factory=dict)
    nats: Nats = field(default_factory=lambda: np.empty(0))


class Keeper:
    """The witness of the final evaluation: keeps what the sample names, and looks for degenerate predictions."""

    def __init__(self, sample: AuditSample, chunks: Sequence[tuple[int, int]]) -> None:
        self.sample = sample
        self.kept: dict[int, KeptChunk] = {}
        self._chunks = chunks
        self._places: deque[torch.Tensor] = deque()
        self._now = KeptChunk(torch.empty(0))
        self._rows: tuple[int, ...] = ()

    def reserve(self, state: torch.Tensor) -> None:
        """Allocate and touch memory for all copies of ``state``; call it before the clock starts."""
        places = len(self.sample.rows) + SPARE_PLACES
        self._places = deque(torch.ones_like(state) for _ in range(places))

    def state_place(self, chunk: int) -> torch.Tensor:
        """Memory for the state before ``chunk``: the one that was longest unused, whether it will be kept or not."""
        place = self._places.popleft()
        self._now = KeptChunk(place)
        self._rows = draw_rows(bytes.fromhex(self.sample.entropy), chunk, self._chunks[chunk][1], self.sample.rows_each)
        return place

    def slab(self, chunk: int, first_row: int, logits: torch.Tensor) -> None:
        """Copy the rows of this slab that an audit of ``chunk`` would look at."""
        for row in self._rows:
            if first_row <= row < first_row + logits.shape[0]:
                self._now.logits[row] = logits[row - first_row].clone()

    def scored(self, chunk: int, nats: Nats) -> None:
        """The chunk is over: remember it, or free its memory for a later one."""
        if chunk in self.sample.rows:
            self._now.nats = nats
            self.kept[chunk] = self._now
        else:
            self._places.append(self._now.state)

    def degenerate(self) -> str:
        """In words, how the kept rows show a predictor that does not look at its inputs; empty when it does."""
        chunks = [list(kept.logits.values()) for kept in self.kept.values() if len(kept.logits) > 1]
        rows = [row for chunk in chunks for row in chunk]
        if not rows or not all(torch.equal(chunk[0], row) for chunk in chunks for row in chunk[1:]):
            return ""
        if all(bool((row == row[0]).all()) for row in rows):
            return "it gives every token the same probability"
        if all(torch.equal(rows[0], row) for row in rows[1:]):
            return "it predicts one distribution everywhere"
        return "it predicts one distribution for all rows of a chunk"
