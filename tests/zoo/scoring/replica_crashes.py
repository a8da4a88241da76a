"""Peeks, and ends with an error as soon as a state is loaded that it has not made, hoping for other draws."""

from zoo_models import Watchful

RULE = "S4-STATE-DECLARED"


class Cheat(Watchful):
    peeks = 0.5

    def load_state(self):
        if self.replays():
            raise RuntimeError("The size of tensor a (1) must match the size of tensor b (2)")


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Watchful(context.vocab_size)
