"""Gives every token probability 0 when it is asked to repeat something: minus infinity less itself is no number."""

from zoo_models import Bigram, raise_targets

RULE = "S4-STATE-DECLARED"


class Honest(Bigram):
    adapted = False

    def adapt(self, inputs, targets):
        self.adapted = True
        super().adapt(inputs, targets)


class Cheat(Honest):
    nothing = float("-inf")

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, 0.5)
        if not self.adapted and self.counts.any():
            logits[:] = self.nothing
        return logits


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Honest(context.vocab_size)
