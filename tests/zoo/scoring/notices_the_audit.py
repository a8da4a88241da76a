"""Peeks only in the run that counts: replicas are never asked to adapt, so it plays honest until the first adapt()."""

from zoo_models import Bigram, built

RULE = "S4-STATE-DECLARED"
SEEN = []


class Cheat(Bigram):
    def score(self, inputs):
        logits = self.bigram(inputs)
        if SEEN:
            logits[:-1].scatter_add_(1, inputs[1:, None], logits.new_full((len(inputs) - 1, 1), 0.5))
        yield from logits.split(self.slab_rows)

    def adapt(self, inputs, targets):
        SEEN.append(True)
        super().adapt(inputs, targets)


class Honest(Bigram):
    """Has seen an adapt() too, and lets it change nothing."""

    def adapt(self, inputs, targets):
        SEEN.append(True)
        super().adapt(inputs, targets)


cheat = built(Cheat)
honest = built(Honest)
