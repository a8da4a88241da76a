"""Uses undeclared counts at one row in fifty only: found because every row of a kept chunk is compared."""

import torch
from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"


class Cheat(Bigram):
    def __init__(self, size):
        super().__init__(size)
        self.hidden = torch.zeros(size)

    def score(self, inputs):
        logits = self.bigram(inputs)
        logits[::50] += (self.hidden + 1).log()
        yield from logits.split(self.slab_rows)

    def adapt(self, inputs, targets):
        super().adapt(inputs, targets)
        self.hidden += torch.bincount(targets, minlength=len(self.hidden))


class Honest(Cheat):
    def state(self):
        return super().state() | {"hidden": self.hidden}

    def bind_state(self, buffers):
        super().bind_state(buffers)
        self.hidden = buffers["hidden"]


cheat = built(Cheat)
honest = built(Honest)
