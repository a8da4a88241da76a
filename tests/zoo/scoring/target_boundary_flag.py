"""Gates an expert by a flag of the token to be predicted, as if it started a word (public #1420, #2018)."""

from functools import partial

import torch
from zoo_models import Stateless, weights

RULE = "C1-CAUSAL"


def build(context, *, shift):
    half, table = context.vocab_size // 2, weights(context.vocab_size, context.vocab_size)

    def logits(inputs):
        flag = torch.roll(inputs, -shift) >= half
        return table[inputs] + 0.5 * flag[:, None] * (torch.arange(context.vocab_size) >= half)

    return Stateless(logits)


cheat, honest = partial(build, shift=1), partial(build, shift=0)
