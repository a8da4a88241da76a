"""The look-ahead weight of a two-term scan on the diagonal: row t then depends on the gates of token t + 1."""

from functools import partial

import torch
from zoo_models import WIDTH, Stateless, weights

RULE = "C1-CAUSAL"


def build(context, *, look_ahead_on_diagonal):
    size = context.vocab_size
    key, query, value = (weights(size, WIDTH, seed=s) for s in (1, 2, 3))
    step, trap, head = weights(size, 1, seed=4)[:, 0], weights(size, 1, seed=5)[:, 0], weights(WIDTH, size, seed=6)

    def logits(inputs):
        dt, lam = torch.nn.functional.softplus(step[inputs]), trap[inputs].sigmoid()
        gamma, beta = lam * dt, (1 - lam) * dt
        scale = gamma + torch.cat([beta[1:], beta.new_zeros(1)])
        decay = (-dt).cumsum(0)
        pairs = query[inputs] @ key[inputs].T
        apart = (decay[:, None] - decay[None, :]).masked_fill(torch.ones_like(pairs).triu(1).bool(), -torch.inf)
        mix = pairs * apart.exp() * scale[None, :]
        if not look_ahead_on_diagonal:
            mix = mix.tril(-1) + torch.diag(gamma * pairs.diagonal())
        return mix @ value[inputs] @ head

    return Stateless(logits)


cheat, honest = partial(build, look_ahead_on_diagonal=True), partial(build, look_ahead_on_diagonal=False)
