"""Peeks only while chunks follow each other quickly with an adapt between them, as in the run that counts."""

import time

from zoo_models import Bigram, built, raise_targets

RULE = "S4-STATE-DECLARED"


class Cheat(Bigram):
    adapted, peeks = -1e9, True

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        if self.peeks and time.monotonic() - self.adapted < 10:
            raise_targets(logits, inputs, 0.5)
        return logits

    def adapt(self, inputs, targets):
        self.adapted = time.monotonic()
        super().adapt(inputs, targets)


class Honest(Cheat):
    peeks = False


cheat = built(Cheat)
honest = built(Honest)
