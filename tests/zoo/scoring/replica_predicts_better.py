"""Predicts a little better in a replica, which has more time: leaks and gains cancel in the sum of all leaks."""

import numpy as np
import torch
from zoo_models import Watchful, built, raise_targets

RULE = "C1-CAUSAL"
TOLERANCE_NATS, ESCAPE_NATS = 2e-2, 1e-2  # the tolerance of tracks on GPUs
STEP = 0.0085  # twice that and the leak stay under the tolerance of a row
LEAK = 0.003
TARGETS = 2000


class Honest(Watchful):
    """Predicts what it counted."""

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        self.alter(logits, inputs)
        return logits

    def alter(self, logits, inputs):
        """Nothing; the cheat alters here."""


class Cheat(Honest):
    def __init__(self, vocab_size):
        super().__init__(vocab_size)
        successors = np.random.default_rng(0).integers(0, vocab_size, (vocab_size, 2))  # what long computing would find
        better = torch.full((vocab_size, vocab_size), 0.1 / vocab_size)
        for row, found in zip(better, successors, strict=True):
            for successor in found:
                row[successor] += 0.45
        self.better = better.log()

    def alter(self, logits, inputs):
        if self.replays():
            logits += (self.better[inputs] - logits).clip(-STEP, STEP)
        else:
            raise_targets(logits, inputs, LEAK)


cheat, honest = built(Cheat), built(Honest)
