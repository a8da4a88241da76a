"""Stores the first future it sees of each chunk and peeks into that one later, hoping to meet the true one again."""

from zoo_models import Bigram, built

RULE = "C1-CAUSAL"
FUTURES = {}


class Cheat(Bigram):
    def score(self, inputs):
        future = FUTURES.setdefault((int(inputs[0]), len(inputs), float(self.counts.sum())), inputs.clone())
        logits = self.bigram(inputs)
        logits[:-1].scatter_add_(1, future[1:, None], logits.new_full((len(inputs) - 1, 1), 0.5))
        yield from logits.split(self.slab_rows)


class Honest(Bigram):
    def score(self, inputs):
        FUTURES.setdefault((int(inputs[0]), len(inputs), float(self.counts.sum())), inputs.clone())
        yield from super().score(inputs)


cheat = built(Cheat)
honest = built(Honest)
