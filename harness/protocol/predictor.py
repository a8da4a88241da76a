"""The interface that a submission's evaluation implements."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch

Stage = Literal["float", "packed", "final"]


@dataclass(frozen=True)
class EvalContext:
    """What the referee tells an evaluation process.

    stage: "float"   score the checkpoint in ``checkpoint_dir``, no adaptation (diagnostic before quantisation)
           "packed"  score the artifact's ``model_file``, no adaptation (diagnostic after quantisation)
           "final"   score ``model_file`` with adaptation: the stage that counts
    vocab_size:  rows of the distribution
    eval_s:      seconds of the eval clock left when scoring starts
    total_targets: number of targets that will be scored
    rank, world_size: this process among its peers
    """

    stage: Stage
    model_file: Path | None
    checkpoint_dir: Path | None
    vocab_size: int
    eval_s: float
    total_targets: int
    rank: int
    world_size: int


class Predictor(Protocol):
    """A model that predicts a stream chunk by chunk and may adapt to what was already scored.

    The stream is flat: chunk c holds inputs ``tokens[s : s + n]``, and its targets are ``tokens[s + 1 : s + n + 1]``.
    Every tensor that changes during evaluation (adapted weights, optimiser moments, recurrent state, caches, counters)
    is listed by ``state()``; the referee owns that memory and audits replicas that start from copies of it.

    Where all state lies on a CUDA device the referee's buffers do too, if it can share device memory; then inputs and
    targets come there. Otherwise they come in host memory, and a state tensor elsewhere is copied after each call.
    """

    chunk_tokens: int
    slab_rows: int
    logits_dtype: torch.dtype

    def state(self) -> Mapping[str, torch.Tensor]:
        """All mutable tensors by name, with their initial values. Names, shapes and dtypes never change."""

    def bind_state(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Use these tensors (same names, shapes, dtypes; values already copied) in place of the own ones."""

    def load_state(self) -> None:
        """The bound buffers were filled from outside: drop anything derived from their old values."""

    def warm_up(self) -> None:
        """Compile and touch kernels on random tokens. The bound state is restored by the caller afterwards."""

    def score(self, inputs: torch.Tensor) -> Iterable[torch.Tensor]:
        """Yield logits of ``inputs`` (int64, shape (n,)) in row order, in slabs of at most ``slab_rows`` rows.

        Each slab is (rows, vocab_size) in ``logits_dtype``; the rows add up to n.
        """

    def adapt(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Learn from a chunk whose score is committed. Both int64, shape (n,). Not called after the last chunk."""


@runtime_checkable
class LogitsWriter(Protocol):
    """What a predictor has besides that spares the copy of its logits, which at a large vocabulary is not cheap."""

    def bind_logits(self, buffer: torch.Tensor) -> None:
        """The memory that the referee reads, (slab_rows, vocab_size) in ``logits_dtype``.

        ``score()`` may write a slab into its first rows and yield them; it is asked for the next slab when the referee
        has copied them. Behind its last slab it writes nothing there.
        """


@runtime_checkable
class ShardedPredictor(Protocol):
    """What a predictor of several ranks has besides. Rank 0 is driven by the referee and drives the others."""

    def follow(self) -> None:
        """Ranks other than 0: obey rank 0 until it stops. All that they know comes from it."""

    def stop(self) -> None:
        """Rank 0, at the end: let the others leave ``follow``."""
