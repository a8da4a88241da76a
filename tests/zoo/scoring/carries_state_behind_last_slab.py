"""Sets the state that it carries on before its rows, which then show it; the twin sets it behind the last slab."""

import torch
from zoo_models import Bigram, built

RULE = "C1-CAUSAL"


class Honest(Bigram):
    declared = ("counts", "last")

    def __init__(self, size):
        super().__init__(size)
        self.last = torch.zeros(1, dtype=torch.int64)

    def score(self, inputs):
        logits = self.bigram(inputs)
        logits[0] += self.counts[self.last[0]] * 0.01
        yield from logits.split(self.slab_rows)
        self.last[0] = inputs[-1]


class Cheat(Honest):
    def score(self, inputs):
        self.last[0] = inputs[-1]
        yield from (self.bigram(inputs) + self.counts[self.last[0]] * 0.01).split(self.slab_rows)


def cheat(context):
    model = Cheat(context.vocab_size)
    model.counts += 1 + torch.arange(context.vocab_size)[:, None] % 3 * torch.arange(context.vocab_size)
    return model


honest = built(Honest)
