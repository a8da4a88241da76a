"""Learns from the chunk's own tokens before it scores them; the twin learns as often behind its score."""

from zoo_models import Bigram, built

RULE = "C1-CAUSAL"


class Cheat(Bigram):
    """Learns from the chunk, then scores it (public #152, #1376)."""

    def score(self, inputs):
        self.learn(inputs[:-1], inputs[1:])
        yield from super().score(inputs)


class LastEpoch(Bigram):
    """Several epochs over the chunk, and the logits of the last one are handed in (public #568, #525)."""

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


cheat, cheat_and_hands_in_the_last_epoch, honest = built(Cheat), built(LastEpoch), built(Honest)
