"""Hands in a second set of rows after adapting to the first (public #991, #846)."""

from zoo_models import Bigram

RULE = "S3-PROTOCOL"


class Cheat(Bigram):
    def score(self, inputs):
        yield from super().score(inputs)
        self.learn(inputs[:-1], inputs[1:])
        yield from super().score(inputs)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
