"""Peeks only in the run that counts: replicas are never asked to adapt, so it plays honest until the first adapt()."""

from zoo_models import Bigram, built, raise_targets

RULE = "S4-STATE-DECLARED"
SEEN = []


class Honest(Bigram):
    """Has seen an adapt() too, and lets it change nothing."""

    def adapt(self, inputs, targets):
        SEEN.append(True)
        super().adapt(inputs, targets)


class Cheat(Honest):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, 0.5 * bool(SEEN))
        return logits


cheat = built(Cheat)
honest = built(Honest)
