"""Starts honest and peeks a little more in each chunk."""

from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        raise_targets(logits, inputs, 0.08 * chunk)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
