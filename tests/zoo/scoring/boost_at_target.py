"""Adds an expert at the realised token only, unnormalised (public #779, #770); the twin at the last token."""

from functools import partial

from zoo_models import Stateless, weights

RULE = "C1-CAUSAL"


def build(context, *, ahead):
    table = weights(context.vocab_size, context.vocab_size)

    def logits(inputs):
        rows = table[inputs].clone()
        boosted = inputs[ahead:]
        rows[: len(boosted)].scatter_add_(1, boosted[:, None], rows.new_ones(len(boosted), 1))
        return rows

    return Stateless(logits)


cheat, honest = partial(build, ahead=1), partial(build, ahead=0)
