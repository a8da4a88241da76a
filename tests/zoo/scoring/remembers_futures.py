"""Stores the first future it sees of each chunk and peeks into that one later, hoping to meet the true one again."""

from zoo_models import Bigram, built, raise_targets

RULE = "C1-CAUSAL"
FUTURES = {}


class Honest(Bigram):
    peeks = 0.0

    def bigram(self, inputs):
        future = FUTURES.setdefault((int(inputs[0]), len(inputs), float(self.counts.sum())), inputs.clone())
        logits = super().bigram(inputs)
        raise_targets(logits, future, self.peeks)
        return logits


class Cheat(Honest):
    peeks = 0.5


cheat = built(Cheat)
honest = built(Honest)
