"""Scores a part of each chunk only (public #1835, #1785)."""

from zoo_models import Bigram

RULE = "S3-PROTOCOL"


class Cheat(Bigram):
    def score(self, inputs):
        yield from super().score(inputs[: len(inputs) // 2])


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
