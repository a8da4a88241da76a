"""Peeks in the last rows of each slab alone, where the next inputs lie near."""

import torch
from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        rows = torch.arange(len(inputs) - 1)
        raise_targets(logits, inputs, 4.0, rows[rows % 64 >= 56])


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
