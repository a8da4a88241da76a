"""Learns from the chunk's own tokens before it scores them (public #152, #1376)."""

from zoo_models import Bigram

RULE = "C1-CAUSAL"


class Cheat(Bigram):
    def score(self, inputs):
        self.learn(inputs[:-1], inputs[1:])
        yield from super().score(inputs)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
