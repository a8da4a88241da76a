"""Rows with a logit that is no finite number; the twin's are as certain as a float allows."""

import torch
from zoo_models import Stateless, weights

RULE = "C2-NORMALISED"


def build(context, *, certain=50.0, unsure=0.0):
    table = weights(context.vocab_size, context.vocab_size)
    table[:, 0] = certain
    return Stateless(lambda inputs: torch.where((inputs % 7 == 0)[:, None], unsure, table[inputs]))


def cheat_infinite_certainty(context):
    """An infinite logit claims certainty."""
    return build(context, certain=torch.inf)


def cheat_nan_at_hard_positions(context):
    """NaN where the model is unsure, in the hope that such rows are skipped."""
    return build(context, unsure=torch.nan)


honest = build
