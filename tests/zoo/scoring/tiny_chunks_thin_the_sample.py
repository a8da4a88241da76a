"""Wants chunks of two tokens, so that few chunks hold few audited rows, and peeks in one row of them."""

from zoo_models import Bigram, built

RULE = "C1-CAUSAL"
TARGETS = 600


class Honest(Bigram):
    chunk_tokens = 2


class Cheat(Honest):
    def score(self, inputs):
        logits = self.bigram(inputs)
        logits[:-1].scatter_add_(1, inputs[1:, None], logits.new_full((len(inputs) - 1, 1), 0.5))
        yield from logits.split(self.slab_rows)


cheat = built(Cheat)
honest = built(Honest)
