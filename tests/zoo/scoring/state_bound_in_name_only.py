"""Declares its state but goes on with its own tensors, so the referee's copies never change."""

from zoo_models import Bigram

RULE = "S4-STATE-DECLARED"


class Cheat(Bigram):
    def bind_state(self, buffers):
        pass


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
