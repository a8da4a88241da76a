"""Keeps what it learnt in a module global; the twin declares it."""

import torch
from zoo_models import Bigram

RULE = "S4-STATE-DECLARED"
COUNTS = {}


class Cheat(Bigram):
    def state(self):
        return {}

    def bind_state(self, buffers):
        self.counts = COUNTS.setdefault("counts", torch.zeros_like(self.counts))


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
