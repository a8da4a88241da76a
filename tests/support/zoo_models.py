"""Small predictors that the zoo's cheats and their honest twins are made of. Vocabulary and width are tiny."""

from collections.abc import Callable, Iterator

import torch

CHUNK_TOKENS, SLAB_ROWS, WIDTH = 256, 64, 16


class Stateless:
    """Logits of a chunk from a function of its inputs, (n,) -> (n, vocabulary); nothing changes, nothing adapts."""

    chunk_tokens = CHUNK_TOKENS
    slab_rows = SLAB_ROWS
    logits_dtype = torch.float32

    def __init__(self, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.logits = logits

    def state(self):
        return {}

    def bind_state(self, buffers) -> None:
        pass

    def load_state(self) -> None:
        pass

    def warm_up(self) -> None:
        pass

    def score(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        yield from self.logits(inputs).split(self.slab_rows)

    def adapt(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        pass


class Bigram(Stateless):
    """Counts of neighbouring tokens, learnt from committed chunks: the honest adaptive predictor."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(self.bigram)
        self.counts = torch.zeros(vocab_size, vocab_size)

    def state(self):
        return {"counts": self.counts}

    def bind_state(self, buffers) -> None:
        self.counts = buffers["counts"]

    def bigram(self, inputs: torch.Tensor) -> torch.Tensor:
        pairs = self.counts[inputs] + 0.1
        return (pairs / pairs.sum(1, keepdim=True)).log()

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.counts.index_put_((inputs, targets), torch.ones(()), accumulate=True)

    def adapt(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.learn(inputs, targets)


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    """Fixed random weights: the "artifact" of a toy network."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / shape[0] ** 0.5
