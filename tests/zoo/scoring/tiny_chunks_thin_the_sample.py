"""Wants chunks of two tokens, so that few chunks hold few audited rows, and peeks in one row of them."""

from zoo_models import Bigram, built, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 600


class Honest(Bigram):
    chunk_tokens = 2


class Cheat(Honest):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, 0.5)
        return logits


cheat = built(Cheat)
honest = built(Honest)
