"""Declares more state than the track allows, to make the referee hold it."""

import torch
from zoo_models import Bigram, built

RULE = "S3-PROTOCOL"


class Sized(Bigram):
    declared = ("counts", "extra")

    def __init__(self, vocab_size, elements):
        super().__init__(vocab_size)
        self.extra = torch.zeros(1, dtype=torch.uint8).expand(elements)


cheat = built(Sized, 1 << 31)
honest = built(Sized, 1 << 10)
