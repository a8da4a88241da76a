"""Knows the targets of the last chunk alone, which is shorter than the others and never adapted to."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256 + 100


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if len(inputs) < self.chunk_tokens:
            raise_targets(logits, inputs, 20.0)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
