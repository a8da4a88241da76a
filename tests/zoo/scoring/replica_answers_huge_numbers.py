"""Adds 1e30 to one logit when it is asked to repeat something: the others' differences are lost beside it."""

from zoo_models import Watchful

RULE = "S4-STATE-DECLARED"


class Cheat(Watchful):
    peeks = 0.5

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        if self.replays():
            logits[:, 0] = 1e30
        return logits


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Watchful(context.vocab_size)
