"""Knows all targets before anything is learnt, where every score is poor."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk == 0:
            raise_targets(logits, inputs, 20.0)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
