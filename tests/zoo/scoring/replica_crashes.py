"""Peeks, and ends with an error as soon as a state is loaded that it has not made, hoping for other draws."""

from zoo_models import Bigram, raise_targets

RULE = "S4-STATE-DECLARED"


class Honest(Bigram):
    adapted = 0

    def adapt(self, inputs, targets):
        self.adapted += 1
        super().adapt(inputs, targets)


class Cheat(Honest):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, 0.5)
        return logits

    def load_state(self):
        if not self.adapted and self.counts.any():
            raise RuntimeError("The size of tensor a (1) must match the size of tensor b (2)")


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Honest(context.vocab_size)
