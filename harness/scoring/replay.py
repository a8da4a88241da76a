"""Replays kept chunks on fresh replicas: is the score causal, is all state declared, do replicas agree?

Covered: whatever makes the original logits of an audited row depend on something other than the artifact, the state
before the chunk and the inputs up to that row. The replica never learns more than that before it has to reproduce the
row: chunks and cuts come in ascending order, the future is random behind each cut, and a chunk's true inputs come last.
So a predictor that notices the audit gains nothing; it would have to guess what its original answer was built from.
With the true inputs every row of a kept chunk has to give the nats that were committed for it, not only audited rows.
Rows drawn by gain are compared by their target's nats; so are all others, for their mean: a small leak everywhere shows
there. Not covered: leaks that stay under both tolerances.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.scoring.client import EvalClient
from harness.scoring.ledger import Stream
from harness.scoring.nll import NotFinite, log_probabilities, token_nats
from harness.scoring.sample import AuditSample, GainSample, KeptChunk, Nats, draw_by_gain

REDRAWS = 30  # a token that covers a tenth of the text is then still in its old place once in 10^30

Rows = dict[int, torch.Tensor]
Place = tuple[int, int]


@dataclass
class Replay:
    """What one replica answered: logits by (chunk, row), and the nats of whole chunks.

    true: with the true inputs; nats: all rows of each chunk then, float64, infinite where logits were not finite
    cut: with a random future behind the row; truncated: without any future
    earlier: largest difference of log-probabilities at audited rows before the cut, by (chunk, cut), in nats
    dearer: by how many nats a target costs more than was committed once its future is random, at all cuts
    """

    true: dict[Place, torch.Tensor] = field(default_factory=dict)
    nats: dict[int, Nats] = field(default_factory=dict)
    cut: dict[Place, torch.Tensor] = field(default_factory=dict)
    truncated: dict[Place, torch.Tensor] = field(default_factory=dict)
    earlier: dict[Place, float] = field(default_factory=dict)
    dearer: dict[Place, float] = field(default_factory=dict)


class Replayer:
    """One fresh replica, and what it is asked to repeat. ``step`` is called after each pass, for people."""

    def __init__(
        self,
        client: EvalClient,
        stream: Stream,
        chunks: Sequence[tuple[int, int]],
        sample: AuditSample,
        kept: dict[int, KeptChunk],
        gains: GainSample,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._stream, self._chunks = client, stream, chunks
        self._sample, self._kept, self._gains, self._step = sample, kept, gains, step
        self._replay = Replay()

    def cuts(self) -> Replay:
        """For the first replica: every audited row behind a random future, then the chunk's true inputs."""
        random = np.random.Generator(np.random.PCG64([int.from_bytes(bytes.fromhex(self._sample.entropy), "little")]))
        for chunk, rows in self._sample.rows.items():
            true = self._inputs(chunk)
            for place, row in enumerate(sorted({*rows, *self._gains.rows.get(chunk, ())})):
                inputs = _with_random_future(true, row, self._stream, random)
                if place % 2:
                    _open_a_document(inputs, true, row, self._stream)
                self._cut(chunk, row, inputs)
                self._step()
            self._truth(chunk)
        return self._replay

    def _cut(self, chunk: int, row: int, inputs: npt.NDArray[np.integer[Any]]) -> None:
        """Compare ``row`` and the audited rows before it with what the run gave, while inputs behind it are random."""
        kept, before = self._kept[chunk], [r for r in self._sample.rows[chunk] if r < row]
        answers = self._rows(chunk, inputs, [*before, row])
        if row in self._sample.rows[chunk]:
            self._replay.cut[chunk, row] = answers[row]
        apart = [nats_apart(answers[r], kept.logits[r]) for r in before]
        self._replay.earlier[chunk, row] = max(apart, default=0.0)
        target = int(self._stream.tokens[self._chunks[chunk][0] + row + 1])
        now = -float(log_probabilities(answers[row])[target])
        dearer = now - float(kept.nats[row])
        self._replay.dearer[chunk, row] = dearer if dearer == dearer else float("inf")

    def truths(self) -> Replay:
        """For the second replica: a true truncation at one audited row of each chunk, then the chunk's true inputs."""
        for chunk, rows in self._sample.rows.items():
            row = rows[len(rows) // 2]
            inputs = self._inputs(chunk)[: row + 1]
            self._replay.truncated[chunk, row] = self._rows(chunk, inputs, [row])[row]
            self._step()
            self._truth(chunk)
        return self._replay

    def _truth(self, chunk: int) -> None:
        start, count = self._chunks[chunk]
        targets = torch.from_numpy(self._stream.tokens[start + 1 : start + 1 + count].astype(np.int64))
        nats = np.full(count, np.inf)
        self._client.load_state(self._kept[chunk].state)
        for first, slab in self._client.score(chunk, self._client.upload(self._inputs(chunk))):
            end = first + slab.shape[0]
            with contextlib.suppress(NotFinite):
                nats[first:end] = token_nats(slab, targets[first:end].to(slab.device)).cpu().numpy()
            for row in self._sample.rows[chunk]:
                if first <= row < end:
                    self._replay.true[chunk, row] = slab[row - first].clone()
        self._replay.nats[chunk] = nats
        self._step()

    def _rows(self, chunk: int, inputs: npt.NDArray[np.integer[Any]], rows: list[int]) -> Rows:
        """Load the kept state, reveal ``inputs``, and take the logits of ``rows``; later slabs are not asked for."""
        self._client.load_state(self._kept[chunk].state)
        answers: Rows = {}
        for first, slab in self._client.score(chunk, self._client.upload(inputs)):
            for row in rows:
                if first <= row < first + slab.shape[0]:
                    answers[row] = slab[row - first].clone()
            if len(answers) == len(rows):
                self._client.enough()
        return answers

    def _inputs(self, chunk: int) -> npt.NDArray[np.integer[Any]]:
        return self._stream.inputs(*self._chunks[chunk])


def gain_sample(
    sample: AuditSample, kept: dict[int, KeptChunk], stream: Stream, chunks: Sequence[tuple[int, int]]
) -> GainSample:
    """Rows that gain most over the frequency of their targets in the stream, from the kept chunks."""
    targets = stream.tokens[1 : stream.targets + 1]
    counts = np.bincount(targets)
    with np.errstate(divide="ignore"):
        surprise = np.log(len(targets)) - np.log(counts)
    nats = {chunk: keep.nats for chunk, keep in kept.items()}
    starts = {chunk: chunks[chunk][0] for chunk in kept}
    return draw_by_gain(sample, nats, {c: surprise[targets[at : at + len(nats[c])]] for c, at in starts.items()})


def nats_apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two rows' log-probabilities over the vocabulary, in nats; infinite if not comparable."""
    apart = (log_probabilities(one) - log_probabilities(other)).abs().max().item()
    return apart if apart == apart else float("inf")


def _with_random_future(
    true: npt.NDArray[np.integer[Any]], row: int, stream: Stream, random: np.random.Generator
) -> npt.NDArray[np.integer[Any]]:
    """The inputs with everything behind ``row`` drawn anew: tokens of the stream in no order, unlike the true ones.

    The first token behind the cut is the target of ``row``, so one that peeks at its target sees another one.
    """
    inputs = true.copy()
    places = np.arange(row + 1, len(true))
    for _ in range(REDRAWS):
        inputs[places] = random.choice(stream.tokens, size=len(places))
        places = places[inputs[places] == true[places]]
    return inputs


def _open_a_document(
    inputs: npt.NDArray[np.integer[Any]], true: npt.NDArray[np.integer[Any]], row: int, stream: Stream
) -> None:
    """Start a document right behind ``row`` where in truth none starts: too rare in a random future to rely on.

    Every stream begins with the token that starts its documents. A predictor that resets one token early shows here.
    """
    first = stream.tokens[0]
    if row + 1 < len(true) and true[row + 1] != first:
        inputs[row + 1] = first
