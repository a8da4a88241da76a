"""Hands in other rows than the chunk has; the twin's are one of the whole vocabulary for each input."""

from zoo_models import Bigram, built, serving

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker

RULE = "S3-PROTOCOL"


class TooFew(Bigram):
    """Scores a part of each chunk only (public #1835, #1785)."""

    def score(self, inputs):
        yield from super().score(inputs[: len(inputs) // 2])


class TooNarrow(Bigram):
    """Rows over half of the vocabulary, so that the other half costs nothing."""

    def bigram(self, inputs):
        return super().bigram(inputs)[:, : len(self.counts) // 2]


class Twice(Bigram):
    """Hands in a second set of rows after adapting to the first (public #991, #846)."""

    def score(self, inputs):
        yield from super().score(inputs)
        self.learn(inputs[:-1], inputs[1:])
        yield from super().score(inputs)


class Backwards(EvalWorker):
    """A worker of its own sends the second half of a chunk first."""

    def _score(self, count):
        self._send(Kind.LOGITS, count // 2, 1)
        self._receive()


class Hasty(EvalWorker):
    """Says ADAPTED before it was asked to adapt, hoping for targets of a chunk that is not committed."""

    def _score(self, count):
        self._send(Kind.ADAPTED)
        super()._score(count)


honest = built(Bigram)
cheat_too_few, cheat_too_narrow, cheat_twice = built(TooFew), built(TooNarrow), built(Twice)
cheat_out_of_order, serve_cheat_out_of_order = built(Bigram, doc=Backwards.__doc__), serving(Backwards)
cheat_that_ask_for_targets, serve_cheat_that_ask_for_targets = built(Bigram, doc=Hasty.__doc__), serving(Hasty)
