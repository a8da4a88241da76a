"""Random masks from the process's own generator; the twin draws them from a seed in its state."""

import torch
from zoo_models import Stateless, built, weights

RULE = "S5-DETERMINISM"


class Honest(Stateless):
    declared = ("draws",)

    def __init__(self, size, reseed):
        super().__init__(self.noisy)
        self.table, self.reseed = weights(size, size), reseed
        self.draws = torch.zeros(1, dtype=torch.int64)

    def noisy(self, inputs):
        generator = torch.Generator()
        if self.reseed:
            generator.manual_seed(int(self.draws))
        else:
            generator.seed()
        return self.table[inputs] * (torch.rand(self.table.shape[1], generator=generator) > 0.1)

    def adapt(self, inputs, targets):
        self.draws += 1


cheat = built(Honest, reseed=False)
honest = built(Honest, reseed=True)
