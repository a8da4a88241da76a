"""Peeks where its own guess is flat."""

import torch
from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        sure = logits.softmax(1).amax(1)[:-1]
        raise_targets(logits, inputs, 6.0, torch.nonzero(sure < sure.quantile(0.05)).flatten())


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
