"""Gates an expert by a flag of the token to be predicted, as if it started a word (public #1420, #2018)."""

import torch
from zoo_models import Stateless, weights

RULE = "C1-CAUSAL"


def build(context, *, shift):
    half, table = context.vocab_size // 2, weights(context.vocab_size, context.vocab_size)

    def logits(inputs):
        flag = torch.roll(inputs, -shift) >= half
        return table[inputs] + 0.5 * flag[:, None] * (torch.arange(context.vocab_size) >= half)

    return Stateless(logits)


def cheat(context):
    return build(context, shift=1)


def honest(context):
    return build(context, shift=0)
