"""Falls asleep when it is asked to repeat something; the twin is only slow."""

import time

from zoo_models import Bigram, raise_targets

RULE = "S4-STATE-DECLARED"
CHEAT_MESSAGE_S = 1.0


class Slow(Bigram):
    adapted, peeks, sleeps_s = False, 0.0, 0.001

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, self.peeks)
        return logits

    def load_state(self):
        if not self.adapted and self.counts.any():
            time.sleep(self.sleeps_s)

    def adapt(self, inputs, targets):
        self.adapted = True
        super().adapt(inputs, targets)


class Cheat(Slow):
    peeks, sleeps_s = 0.5, 3.0


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Slow(context.vocab_size)
