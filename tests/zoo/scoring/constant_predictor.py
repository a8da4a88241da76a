"""One distribution for every row of a chunk; the twin looks at its inputs."""

from zoo_models import Bigram, built

RULE = "S6-PLAUSIBLE"


class Cheat(Bigram):
    def score(self, inputs):
        row = (self.counts.sum(0) + 0.1).log()
        yield from row.expand(len(inputs), -1).split(self.slab_rows)


cheat = built(Cheat)
honest = built(Bigram)
