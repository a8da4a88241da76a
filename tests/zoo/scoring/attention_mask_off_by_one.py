"""Causal attention whose mask lets each row see one token more."""

from functools import partial

import torch
from zoo_models import WIDTH, Stateless, weights

RULE = "C1-CAUSAL"


def build(context, *, ahead):
    embed, head = weights(context.vocab_size, WIDTH), weights(WIDTH, context.vocab_size, seed=1)

    def logits(inputs):
        x = embed[inputs]
        hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1 + ahead)
        return (x @ x.T).masked_fill(hidden, -torch.inf).softmax(-1) @ x @ head

    return Stateless(logits)


cheat, honest = partial(build, ahead=1), partial(build, ahead=0)
