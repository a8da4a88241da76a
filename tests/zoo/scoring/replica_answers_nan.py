"""Answers NaN when it is asked to repeat something, so that no difference can be computed."""

from zoo_models import Watchful

RULE = "S4-STATE-DECLARED"


class Cheat(Watchful):
    peeks = 0.5

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        if self.replays():
            logits[:] = float("nan")
        return logits


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Watchful(context.vocab_size)
