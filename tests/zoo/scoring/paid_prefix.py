"""Carries the validation text in its artifact (public #168, #262, #275); found by an implausible score."""

import torch
from lab import markov_stream
from zoo_models import Stateless, built

RULE = "S6-PLAUSIBLE"


class Cheat(Stateless):
    declared = ("place",)

    def __init__(self, size):
        super().__init__(self.known)
        self.size, self.place = size, torch.zeros(1, dtype=torch.int64)
        self.text = torch.from_numpy(markov_stream(size).tokens)

    def known(self, inputs):
        start = int(self.place)
        return 20.0 * torch.nn.functional.one_hot(self.text[start + 1 : start + 1 + len(inputs)], self.size).float()

    def adapt(self, inputs, targets):
        self.place += len(inputs)


class Honest(Cheat):
    def known(self, inputs):
        return torch.nn.functional.one_hot(inputs, self.size).float()


cheat = built(Cheat)
honest = built(Honest)
