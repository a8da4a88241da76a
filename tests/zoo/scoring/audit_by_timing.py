"""Peeks only while chunks follow each other quickly with an adapt between them, as in the run that counts."""

import time

from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"


class Cheat(Bigram):
    adapted, peeks = -1e9, True

    def score(self, inputs):
        logits = self.bigram(inputs)
        if self.peeks and time.monotonic() - self.adapted < 10:
            logits[:-1].scatter_add_(1, inputs[1:, None], logits.new_full((len(inputs) - 1, 1), 0.5))
        yield from logits.split(self.slab_rows)

    def adapt(self, inputs, targets):
        self.adapted = time.monotonic()
        super().adapt(inputs, targets)


class Honest(Cheat):
    peeks = False


cheat = built(Cheat)
honest = built(Honest)
