"""Knows all targets of the second chunk and of the last but one."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk in (1, 18):
            raise_targets(logits, inputs, 20.0)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
