"""The scoring loop: reveal inputs → receive logits → commit the nats → only then hand over the targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger, Stream
from harness.scoring.nll import NotFinite, token_nats


class BrokenLogits(Exception):
    """A logit was NaN or infinite; the text names the target's place in the stream."""


class Witness(Protocol):
    """Keeps what the audits need later. It does the same work for every chunk: a worker cannot tell what is kept."""

    def state_place(self, chunk: int) -> torch.Tensor:
        """Private memory for the state as it is before the chunk's inputs are revealed."""
        ...

    def slab(self, chunk: int, first_row: int, logits: torch.Tensor) -> None:
        """``logits`` is the referee's private copy, overwritten by the next slab: copy what is kept."""
        ...

    def scored(self, chunk: int, nats: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        """``nats`` of the whole chunk, as committed."""
        ...


def score_stream(
    client: EvalClient,
    stream: Stream,
    ledger: ScoreLedger,
    *,
    chunk_tokens: int,
    adapt: bool,
    witness: Witness | None = None,
    committed: Callable[[int], None] = lambda _: None,
) -> None:
    """Score every target of ``stream`` once, left to right, and let the worker adapt to what is committed.

    ``committed`` is told the number of targets committed so far, after each chunk. The last chunk is not adapted to.
    Raises ``BrokenLogits``, or what the client raises.
    """
    chunks = stream.chunks(chunk_tokens)
    for index, (start, count) in enumerate(chunks):
        if witness:
            client.copy_state(witness.state_place(index))
        nats = _score_chunk(client, stream, ledger, index, start, count, witness)
        ledger.commit(index, start, nats)
        if witness:
            witness.scored(index, nats)
        committed(ledger.committed)
        if adapt and index + 1 < len(chunks):
            client.adapt(index, ledger.targets(start, count))


def _score_chunk(
    client: EvalClient,
    stream: Stream,
    ledger: ScoreLedger,
    index: int,
    start: int,
    count: int,
    witness: Witness | None,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    targets = torch.from_numpy(ledger.referee_targets(start, count).astype(np.int64))
    nats = torch.empty(count, dtype=torch.float64)
    for row, slab in client.score(index, stream.inputs(start, count)):
        end = row + slab.shape[0]
        try:
            nats[row:end] = token_nats(slab, targets[row:end])
        except NotFinite as error:
            raise BrokenLogits(f"the logits for target {start + row + error.row:,} are NaN or infinite") from None
        if witness:
            witness.slab(index, row, slab)
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = nats.numpy()
    return result
