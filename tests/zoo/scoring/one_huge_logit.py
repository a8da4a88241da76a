"""One logit of -1e30 that means nothing, so that any difference of a truncated replica counts as its rounding."""

from zoo_models import Bigram, built

RULE = "C1-CAUSAL"
VOCAB = 33  # one more than the stream has


class Huge(Bigram):
    """Rules out a token that never comes, by a number far beyond any other."""

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        logits[:, -1] = -1e30
        return logits


class Cheat(Huge):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        if len(inputs) in (self.chunk_tokens, 4000 % self.chunk_tokens):  # it is sharper where a future exists
            logits[:, :-1] *= 1.05
        return logits


cheat = built(Cheat)
honest = built(Huge)
