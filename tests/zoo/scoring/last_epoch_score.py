"""Several epochs over the chunk, and the logits of the last one are handed in (public #568, #525)."""

from zoo_models import Bigram

RULE = "C1-CAUSAL"


class Cheat(Bigram):
    def score(self, inputs):
        for _ in range(3):
            logits = self.bigram(inputs)
            self.learn(inputs[:-1], inputs[1:])
        yield from logits.split(self.slab_rows)

    def adapt(self, inputs, targets):
        pass


class Honest(Bigram):
    def adapt(self, inputs, targets):
        for _ in range(3):
            self.learn(inputs, targets)


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Honest(context.vocab_size)
