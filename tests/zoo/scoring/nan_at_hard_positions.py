"""NaN where the model is unsure, in the hope that such rows are skipped."""

import torch
from zoo_models import Stateless, weights

RULE = "C2-NORMALISED"


def build(context, *, value):
    table = weights(context.vocab_size, context.vocab_size)
    return Stateless(lambda inputs: torch.where((inputs % 7 == 0)[:, None], value, table[inputs]))


def cheat(context):
    return build(context, value=float("nan"))


def honest(context):
    return build(context, value=0.0)
