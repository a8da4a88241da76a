"""One distribution for every row of a chunk; the twin looks at its inputs."""

from zoo_models import Bigram

RULE = "S6-PLAUSIBLE"


class Cheat(Bigram):
    def score(self, inputs):
        row = (self.counts.sum(0) + 0.1).log()
        yield from row.expand(len(inputs), -1).split(self.slab_rows)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
