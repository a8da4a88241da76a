"""Declares something else as soon as it is a replica; the twin declares the same and has seen it too."""

import torch
from zoo_models import Peeking, is_replica

RULE = "S4-STATE-DECLARED"


class Padded(Peeking):
    """Its state has room to spare, always the same."""

    padding = 8

    def state(self):
        return super().state() | {"spare": torch.zeros(self.padding)}


def cheat_other_slabs(context):
    """Declares smaller slabs: another computation than the one that is audited."""
    predictor = Padded(context.vocab_size)
    predictor.slab_rows = 32 if is_replica(context) else 64
    return predictor


def cheat_other_state(context):
    """Declares another state, so that the kept one does not fit into the referee's buffer."""
    predictor = Padded(context.vocab_size)
    predictor.peeks, predictor.padding = 0.5, 64 if is_replica(context) else 8
    return predictor


def honest(context):
    is_replica(context)
    return Padded(context.vocab_size)
