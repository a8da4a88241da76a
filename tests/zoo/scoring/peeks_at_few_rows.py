"""Uses undeclared counts at one row in fifty only: found because every row of a kept chunk is compared."""

import torch
from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"


class Cheat(Bigram):
    def __init__(self, size):
        super().__init__(size)
        self.hidden = torch.zeros(size)

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        logits[::50] += (self.hidden + 1).log()
        return logits

    def adapt(self, inputs, targets):
        super().adapt(inputs, targets)
        self.hidden += torch.bincount(targets, minlength=len(self.hidden))


class Honest(Cheat):
    declared = ("counts", "hidden")


cheat = built(Cheat)
honest = built(Honest)
