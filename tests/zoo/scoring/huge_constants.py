"""Adds one huge constant to every logit of costly rows: ln V would round away beside it, and the row would be free."""

from zoo_models import Bigram, built

RULE = "C2-NORMALISED"
GAINS_NOTHING = True


class Huge(Bigram):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        logits[::3] = 1e17
        return logits


class Flat(Bigram):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        logits[::3] = 0.0
        return logits


cheat = built(Huge)
honest = built(Flat)
