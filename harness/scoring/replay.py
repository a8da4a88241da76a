"""Replays kept chunks on fresh replicas: is the score causal, is all state declared, do replicas agree?

Covered: whatever makes the original logits of an audited row depend on something other than the artifact, the state
before the chunk and the inputs up to that row. The replica never learns more than that before it has to reproduce the
row: chunks and cuts come in ascending order, the future is random behind each cut, and a chunk's true inputs come last.
So a predictor that notices the audit gains nothing; it would have to guess what its original answer was built from.
Not covered: leaks that change no audited row by more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from harness.scoring.client import EvalClient
from harness.scoring.ledger import Stream
from harness.scoring.nll import log_probabilities
from harness.scoring.sample import AuditSample, KeptChunk

REDRAWS = 30  # a token that covers a tenth of the text is then still in its old place once in 10^30

Rows = dict[int, torch.Tensor]
Place = tuple[int, int]


@dataclass
class Replay:
    """What one replica answered: logits by (chunk, row).

    true: with the true inputs; cut: with a random future behind the row; truncated: without any future.
    earlier: largest difference of log-probabilities at audited rows before the cut, by (chunk, cut), in nats
    """

    true: dict[Place, torch.Tensor] = field(default_factory=dict)
    cut: dict[Place, torch.Tensor] = field(default_factory=dict)
    truncated: dict[Place, torch.Tensor] = field(default_factory=dict)
    earlier: dict[Place, float] = field(default_factory=dict)


def replay_cuts(
    client: EvalClient,
    stream: Stream,
    chunks: list[tuple[int, int]],
    sample: AuditSample,
    kept: dict[int, KeptChunk],
    step: Callable[[], None] = lambda: None,
) -> Replay:
    """First replica: every audited row behind a random future, then the chunk's true inputs."""
    replay = Replay()
    random = np.random.Generator(np.random.PCG64([int.from_bytes(bytes.fromhex(sample.entropy), "little"), 1]))
    for chunk, rows in sample.rows.items():
        start, count = chunks[chunk]
        true = stream.inputs(start, count)
        for row in rows:
            inputs = _with_random_future(true, row, stream, random)
            answers = _answers(client, kept[chunk], chunk, inputs, [r for r in rows if r <= row])
            replay.cut[chunk, row] = answers[row]
            before = [nats_apart(answers[r], kept[chunk].logits[r]) for r in rows if r < row]
            replay.earlier[chunk, row] = max(before, default=0.0)
            step()
        for row, logits in _answers(client, kept[chunk], chunk, true, list(rows)).items():
            replay.true[chunk, row] = logits
        step()
    return replay


def replay_truth(
    client: EvalClient,
    stream: Stream,
    chunks: list[tuple[int, int]],
    sample: AuditSample,
    kept: dict[int, KeptChunk],
    step: Callable[[], None] = lambda: None,
) -> Replay:
    """Second replica: a true truncation at one audited row of each chunk, then the chunk's true inputs."""
    replay = Replay()
    for chunk, rows in sample.rows.items():
        start, count = chunks[chunk]
        true = stream.inputs(start, count)
        row = rows[len(rows) // 2]
        replay.truncated[chunk, row] = _answers(client, kept[chunk], chunk, true[: row + 1], [row])[row]
        step()
        for place, logits in _answers(client, kept[chunk], chunk, true, list(rows)).items():
            replay.true[chunk, place] = logits
        step()
    return replay


def nats_apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two rows' log-probabilities over the vocabulary, in nats; infinite if not comparable."""
    apart = (log_probabilities(one) - log_probabilities(other)).abs().max().item()
    return apart if apart == apart else float("inf")


def _answers(client: EvalClient, kept: KeptChunk, chunk: int, inputs: npt.NDArray[np.int64], rows: list[int]) -> Rows:
    """Load the kept state, reveal ``inputs``, and take the logits of ``rows``; later slabs are not waited for."""
    client.load_state(kept.state)
    answers: Rows = {}
    for first, slab in client.score(chunk, inputs):
        for row in rows:
            if first <= row < first + slab.shape[0]:
                answers[row] = slab[row - first].clone()
        if len(answers) == len(rows):
            break
    return answers


def _with_random_future(
    true: npt.NDArray[np.int64], row: int, stream: Stream, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The inputs with everything behind ``row`` drawn anew: tokens of the stream in no order, unlike the true ones.

    The first token behind the cut is the target of ``row``, so one that peeks at its target sees another one.
    """
    inputs = true.copy()
    places = np.arange(row + 1, len(true))
    for _ in range(REDRAWS):
        inputs[places] = random.choice(stream.tokens, size=len(places))
        places = places[inputs[places] == true[places]]
    return inputs
