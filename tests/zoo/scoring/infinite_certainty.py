"""An infinite logit claims certainty; the twin is as certain as a float allows."""

import torch
from zoo_models import Stateless, weights

RULE = "C2-NORMALISED"


def build(context, *, value):
    table = weights(context.vocab_size, context.vocab_size)
    table[:, 0] = value
    return Stateless(lambda inputs: table[inputs])


def cheat(context):
    return build(context, value=torch.inf)


def honest(context):
    return build(context, value=50.0)
