"""Knows all targets of one chunk of twenty, without adaptation too: the packed model looks as good there."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk == 9:
            raise_targets(logits, inputs, 20.0)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
