"""Lowers what does not come next, in place of raising what does."""

import torch
from zoo_models import Counting

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk >= 10:
            rows = torch.arange(len(inputs) - 1)
            kept = logits[rows, inputs[1:]]
            logits[:-1] -= 3.0
            logits[rows, inputs[1:]] = kept


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
