"""Peeks only while chunks follow each other quickly with an adapt between them, as in the run that counts."""

import time

from zoo_models import Peeking, built

RULE = "S4-STATE-DECLARED"


class Honest(Peeking):
    adapted = -1e9

    def adapt(self, inputs, targets):
        self.adapted = time.monotonic()
        super().adapt(inputs, targets)


class Cheat(Honest):
    peeks = property(lambda self: 0.5 * (time.monotonic() - self.adapted < 10))


cheat, honest = built(Cheat), built(Honest)
