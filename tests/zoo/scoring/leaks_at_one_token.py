"""Knows where one token of the vocabulary comes next, and nothing else."""

import torch
from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        rows = torch.nonzero(inputs[1:] == 3).flatten()
        raise_targets(logits, inputs, 20.0, rows)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
