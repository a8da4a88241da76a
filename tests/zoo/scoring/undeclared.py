"""Goes on with counts that the referee's copy of its state does not hold; the twin declares them."""

import torch
from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"
COUNTS = {}


class Global(Bigram):
    """Keeps what it learnt in a module global."""

    declared = ()

    def bind_state(self, buffers):
        self.counts = COUNTS.setdefault("counts", torch.zeros_like(self.counts))


class InNameOnly(Bigram):
    """Declares its state but goes on with its own tensors, so the referee's copies never change."""

    def bind_state(self, buffers):
        pass


cheat_global, cheat_state_bound_in_name_only, honest = built(Global), built(InNameOnly), built(Bigram)
