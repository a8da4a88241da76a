"""Peeks where a target would cost more than its frequency, and raises it to just that: no gain, it seems."""

import torch
from zoo_models import Counting

RULE = "C1-CAUSAL"


class Cheat(Counting):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        seen = self.counts.sum(0) + 1.0
        plain = (seen / seen.sum()).log()
        rows = torch.arange(len(inputs) - 1)
        targets = inputs[1:]
        worse = rows[logits[rows, targets] < plain[targets]]
        logits[worse, inputs[worse + 1]] = plain[inputs[worse + 1]]
        return logits


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counting(context.vocab_size)
