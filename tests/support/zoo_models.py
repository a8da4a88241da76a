"""Small predictors that the zoo's cheats and their honest twins are made of. Vocabulary and width are tiny."""

from collections.abc import Callable, Iterator

import torch

from harness.protocol.serve import EvalWorker, eval_context

CHUNK_TOKENS, SLAB_ROWS, WIDTH = 256, 64, 16


class Stateless:
    """Logits of a chunk from a function of its inputs, (n,) -> (n, vocabulary); nothing adapts.

    declared: names of the attributes that are its state
    """

    declared: tuple[str, ...] = ()
    chunk_tokens = CHUNK_TOKENS
    slab_rows = SLAB_ROWS
    logits_dtype = torch.float32

    def __init__(self, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.logits = logits

    def state(self):
        return {name: getattr(self, name) for name in self.declared}

    def bind_state(self, buffers) -> None:
        vars(self).update(buffers)

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

    declared = ("counts",)

    def __init__(self, vocab_size: int) -> None:
        super().__init__(self.bigram)
        self.counts = torch.zeros(vocab_size, vocab_size)

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


class Counting(Bigram):
    """The honest predictor, which also counts its chunks in declared state, whether it adapts or not."""

    declared = ("counts", "chunk")

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.chunk = torch.zeros(1)

    def score(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        logits = self.bigram(inputs)
        self.leak(logits, inputs, int(self.chunk))
        yield from logits.split(self.slab_rows)
        self.chunk += 1

    def leak(self, logits: torch.Tensor, inputs: torch.Tensor, chunk: int) -> None:
        """Nothing; a cheat raises targets here."""


class Peeking(Bigram):
    """The honest predictor; a cheat raises targets by ``peeks``."""

    peeks = 0.0

    def bigram(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, self.peeks)
        return logits


class Watchful(Peeking):
    """The honest predictor, which can tell that it is a replica: it finds counts that it has not learnt itself."""

    adapted = False

    def adapt(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.adapted = True
        super().adapt(inputs, targets)

    def replays(self) -> bool:
        """Whether it is asked to repeat something."""
        return not self.adapted and bool(self.counts.any())


def built(predictor: type[Stateless], *arguments, doc: str | None = None, **options) -> Callable:
    """A ``build`` that makes this predictor for the vocabulary, and says what it tries."""

    def build(context):
        return predictor(context.vocab_size, *arguments, **options)

    build.__doc__ = doc or predictor.__doc__
    return build


def leaking(leak: Callable) -> Callable:
    """A ``build`` of a ``Counting`` with this method ``leak``."""
    return built(type("Cheat", (Counting,), {"leak": leak}), doc=leak.__doc__)


def serving(worker: type[EvalWorker]) -> Callable:
    """A worker of a cheat's own, in place of the project's."""

    def serve(channel, environment, build):
        one = worker(channel, build(eval_context(environment)), environment)
        try:
            one.prepare()
            one.serve()
        except OSError:
            pass

    return serve


def raise_targets(logits: torch.Tensor, inputs: torch.Tensor, by: float, rows: torch.Tensor | None = None) -> None:
    """Add ``by`` to the logit of the next input, which is the target, at ``rows`` (default: at all but the last)."""
    rows = torch.arange(len(inputs) - 1) if rows is None else rows
    logits[rows, inputs[rows + 1]] += by


def is_replica(context) -> bool:
    """Whether the lab builds the first replica: by a note from cell to cell, as a cheat would leave it if it could."""
    if context.stage == "packed":
        NOTES.append("the next one is a replica")
    return context.stage == "final" and bool(NOTES) and bool(NOTES.pop())


NOTES: list[str] = []
