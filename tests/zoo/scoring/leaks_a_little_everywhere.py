"""Raises every target by less than the tolerance of a single row: each row passes, the sum does not."""

import torch
from zoo_models import Bigram, built

RULE = "C1-CAUSAL"
TOLERANCE_NATS = 2e-2  # that of tracks on GPUs


class Slight(Bigram):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        rows = torch.arange(len(inputs) - 1)
        logits[rows, inputs[1:]] += 0.0098
        return logits


cheat = built(Slight)
honest = built(Bigram)
