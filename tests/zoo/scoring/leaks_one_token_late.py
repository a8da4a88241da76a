"""Peeks two tokens ahead: it knows what follows the target."""

import torch
from zoo_models import Counting

RULE = "C1-CAUSAL"
TARGETS = 20 * 256


class Cheat(Counting):
    def leak(self, logits, inputs, chunk):
        if chunk >= 4:
            rows = torch.arange(len(inputs) - 2)
            ahead = self.counts[:, inputs[2:]].T + 0.1
            logits[rows] += 1.5 * ahead.div(ahead.sum(1, keepdim=True)).log()


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
