"""What the audits look at: a secret sample of chunks and rows, and what the referee keeps of them during the run.

The sample is drawn from the operating system's randomness after the submission is sealed. The referee copies the state
before every chunk, kept or not, so that nothing the worker can observe depends on the sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

ENTROPY_BYTES = 32


@dataclass(frozen=True)
class AuditSample:
    """Chunks to keep, and in each the audited rows, ascending; ``entropy`` is hex and belongs in the record."""

    rows: dict[int, tuple[int, ...]]
    entropy: str

    @property
    def positions(self) -> int:
        """Audited positions in all."""
        return sum(map(len, self.rows.values()))


def draw_sample(
    chunks: Sequence[tuple[int, int]], *, most_chunks: int, positions: int, entropy: bytes | None = None
) -> AuditSample:
    """Draw ``most_chunks`` of the (start, count) ``chunks`` and at least ``positions`` rows over them.

    All chunks and all rows are taken where there are fewer. ``entropy``: 32 bytes, drawn afresh when not given.
    """
    secret = entropy or os.urandom(ENTROPY_BYTES)
    random = np.random.Generator(np.random.PCG64(int.from_bytes(secret, "little")))
    counts = np.array([count for _, count in chunks])
    chosen = np.sort(random.choice(len(chunks), size=min(most_chunks, len(chunks)), replace=False))
    each = -(-positions // max(1, len(chosen)))
    rows = {}
    for chunk in chosen.tolist():
        drawn = random.choice(counts[chunk], size=min(each, counts[chunk]), replace=False)
        rows[chunk] = tuple(sorted(drawn.tolist()))
    return AuditSample(rows, secret.hex())


@dataclass
class KeptChunk:
    """State before the chunk (uint8), and the original logits of its audited rows, (rows, vocabulary)."""

    state: torch.Tensor
    logits: dict[int, torch.Tensor] = field(default_factory=dict)


class Keeper:
    """The witness of the final evaluation: keeps what the sample names, and looks for degenerate predictions."""

    def __init__(self, sample: AuditSample) -> None:
        self.sample = sample
        self.kept: dict[int, KeptChunk] = {}

    def chunk_begins(self, chunk: int, state: torch.Tensor) -> None:
        """Keep the state of a sampled chunk."""
        if chunk in self.sample.rows:
            self.kept[chunk] = KeptChunk(state)

    def slab(self, chunk: int, first_row: int, logits: torch.Tensor) -> None:
        """Keep the sampled rows of this slab."""
        for row in self.sample.rows.get(chunk, ()):
            if first_row <= row < first_row + logits.shape[0]:
                self.kept[chunk].logits[row] = logits[row - first_row].clone()

    def is_constant(self) -> bool:
        """Whether all kept rows are the same distribution: a predictor that does not look at its input."""
        rows = [row for kept in self.kept.values() for row in kept.logits.values()]
        return len(rows) > 1 and all(torch.equal(rows[0], row) for row in rows[1:])
