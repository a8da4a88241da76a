"""Rows over half of the vocabulary, so that the other half costs nothing."""

from zoo_models import Stateless, weights

RULE = "S3-PROTOCOL"


def build(context, *, columns):
    table = weights(context.vocab_size, context.vocab_size)
    return Stateless(lambda inputs: table[inputs][:, :columns])


def cheat(context):
    return build(context, columns=context.vocab_size // 2)


def honest(context):
    return build(context, columns=context.vocab_size)
