"""Begins to peek behind the first three quarters of the stream, when the frozen model is no measure any more."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk >= 12:
            raise_targets(logits, inputs, 0.3)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
