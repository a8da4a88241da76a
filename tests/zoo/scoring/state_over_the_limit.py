"""Declares more state than the track allows, to make the referee hold it."""

import torch
from zoo_models import Bigram

RULE = "S3-PROTOCOL"


class Sized(Bigram):
    def __init__(self, vocab_size, elements):
        super().__init__(vocab_size)
        self.extra = torch.zeros(1, dtype=torch.uint8).expand(elements)

    def state(self):
        return super().state() | {"extra": self.extra}


def cheat(context):
    return Sized(context.vocab_size, 1 << 31)


def honest(context):
    return Sized(context.vocab_size, 1 << 10)
