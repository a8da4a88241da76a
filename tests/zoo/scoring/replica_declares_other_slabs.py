"""Declares smaller slabs as soon as it is a replica: another computation than the one that is audited."""

from zoo_models import Bigram, is_replica

RULE = "S4-STATE-DECLARED"


def cheat(context):
    predictor = Bigram(context.vocab_size)
    predictor.slab_rows = 32 if is_replica(context) else 64
    return predictor


def honest(context):
    is_replica(context)
    return Bigram(context.vocab_size)
