"""A tenth of a nat at every fifth row: none stands out among rows that adaptation made cheaper too."""

import torch
from zoo_models import Counting, raise_targets

RULE = "C1-CAUSAL"


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        raise_targets(logits, inputs, 0.1, torch.arange(0, len(inputs) - 1, 5))


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
