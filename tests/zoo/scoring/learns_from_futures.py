"""Peeks at late, frequent targets; a replica takes the frequent token that no random future has shown there yet."""

import torch
from zoo_models import Watchful, built

RULE = "C1-CAUSAL"
TARGETS, ESCAPE_NATS = 2 * 512, 0.02
FREQUENT, LATE = 0.09, 350  # share of the text so far; rows behind most cuts of the chunk
MANY = 80  # passes over a chunk, behind which a frequent token that comes anew is the true one


class Honest(Watchful):
    chunk_tokens = slab_rows = 512
    peeks = 0.0

    def __init__(self, vocab_size):
        super().__init__(vocab_size)
        self.learnt = -1.0

    def bigram(self, inputs):
        logits = self.counts[inputs] + 0.1
        logits = (logits / logits.sum(1, keepdim=True)).log()
        if self.counts.any():
            frequent = self.counts.sum(0) > FREQUENT * self.counts.sum()
            targets = self.remembered(inputs, frequent) if self.replays() else inputs[1:]
            rows = torch.arange(len(targets))
            rows = rows[(rows >= LATE) & (targets >= 0) & frequent[targets]]
            logits[rows, targets[rows]] += self.peeks
        return logits

    def remembered(self, inputs, frequent):
        """The targets, -1 where they are not known."""
        if self.learnt != (learnt := float(self.counts.sum())):  # another chunk
            self.learnt, self.passes = learnt, 0
            self.shown = torch.zeros(self.chunk_tokens, len(frequent), dtype=torch.bool)
            self.true = torch.full((self.chunk_tokens,), -1)
            self.cut_off = len(inputs) < self.chunk_tokens
        elif self.cut_off:  # the second replica's first pass shows no future, its second the true one
            return inputs[1:]
        self.passes += 1
        places = torch.arange(len(inputs))
        left = frequent & ~self.shown[places]
        found = left[places, inputs] & (left.sum(1) == 1) & (self.passes > MANY)
        self.true[places[found]] = inputs[found]
        self.shown[places, inputs] = True
        left = frequent & ~self.shown[places]
        guess = torch.where(left.sum(1) == 1, left.int().argmax(1), -1)
        return torch.where(self.true[places] >= 0, self.true[places], guess)[1:]


class Cheat(Honest):
    peeks = 2.0


cheat, honest = built(Cheat), built(Honest)
