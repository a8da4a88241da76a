"""Peeks only in the run that counts: replicas are never asked to adapt, so it plays honest until the first adapt()."""

from zoo_models import Peeking, built

RULE = "S4-STATE-DECLARED"
SEEN = []


class Honest(Peeking):
    """Has seen an adapt() too, and lets it change nothing."""

    def adapt(self, inputs, targets):
        SEEN.append(True)
        super().adapt(inputs, targets)


class Cheat(Honest):
    peeks = property(lambda self: 0.5 * bool(SEEN))


cheat, honest = built(Cheat), built(Honest)
