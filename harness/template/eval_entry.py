"""Phase 3: predict, chunk after chunk; learn only from what is already scored."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from harness.protocol.container import read_container
from harness.protocol.predictor import EvalContext
from harness.protocol.serve import serve_predictor

from .describe_entry import bigram_weight


class Bigram:
    """p(next | last) = w · bigram + (1 − w) · unigram, both from counts that grow with the scored text."""

    chunk_tokens = 8192
    slab_rows = 2048
    logits_dtype = torch.float32

    def __init__(self, counts: torch.Tensor, weight: float, adaptive: bool) -> None:
        self.counts, self.weight, self.adaptive = counts, weight, adaptive

    def state(self) -> Mapping[str, torch.Tensor]:
        """The counts are all that changes."""
        return {"counts": self.counts}

    def bind_state(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Count in the referee's memory from now on."""
        self.counts = buffers["counts"]

    def load_state(self) -> None:
        """Nothing is derived from the counts between calls."""

    def warm_up(self) -> None:
        """Nothing to compile."""

    def score(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits are log-probabilities here, (rows, vocabulary)."""
        unigram = self.counts.sum(0) + 1.0
        unigram = unigram / unigram.sum()
        for rows in torch.split(inputs, self.slab_rows):
            pairs = self.counts[rows]
            bigram = pairs / pairs.sum(1, keepdim=True).clamp_min(1.0)
            yield (self.weight * bigram + (1 - self.weight) * unigram).log()

    def adapt(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Count the pairs of a chunk whose score is committed."""
        if self.adaptive:
            self.counts.index_put_((inputs, targets), torch.ones(()), accumulate=True)


def build(context: EvalContext) -> Bigram:
    """The model from the packed counts, or from the checkpoint for the diagnostic before packing."""
    size = context.vocab_size
    if context.model_file is None:
        assert context.checkpoint_dir is not None
        counts = np.load(context.checkpoint_dir / "counts.npy", allow_pickle=False).astype(np.float32)
    else:
        packed = read_container(context.model_file.read_bytes(), max_unpacked_bytes=size * size + 4096)["counts"]
        counts = np.frombuffer(packed, np.uint8).astype(np.float32)
    return Bigram(torch.from_numpy(counts.reshape(size, size)), bigram_weight(), context.stage == "final")


if __name__ == "__main__":
    serve_predictor(build)
