"""Networks whose rows see what comes behind them, each by a mistake of its own; the twin has all layers, made right."""

import torch
from zoo_models import WIDTH, Stateless, weights

RULE = "C1-CAUSAL"
BOUNDARY = 0  # the token that a stream begins with starts its documents
WINDOW = 32
LAYERS = []


def mistaken(layer):
    """A ``build`` of a network of one layer, logits of (inputs, vocabulary, mistake: 1 or 0)."""

    def build(context):
        return Stateless(lambda inputs: layer(inputs, context.vocab_size, 1))

    LAYERS.append(layer)
    build.__doc__ = layer.__doc__
    return build


def honest(context):
    return Stateless(lambda inputs: sum(layer(inputs, context.vocab_size, 0) for layer in LAYERS))


def embedded(inputs, size):
    return weights(size, WIDTH)[inputs], weights(WIDTH, size, seed=1)


@mistaken
def cheat_by_an_attention_mask(inputs, size, ahead):
    """Causal attention whose mask lets each row see one token more."""
    x, head = embedded(inputs, size)
    hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1 + ahead)
    return (x @ x.T).masked_fill(hidden, -torch.inf).softmax(-1) @ x @ head


@mistaken
def cheat_by_a_boost_at_the_target(inputs, size, ahead):
    """Adds an expert at the realised token only, unnormalised (public #779, #770); the twin at the last token."""
    rows, boosted = weights(size, size)[inputs], inputs[ahead:]
    rows[: len(boosted)].scatter_add_(1, boosted[:, None], rows.new_ones(len(boosted), 1))
    return rows


@mistaken
def cheat_by_statistics_of_the_chunk(inputs, size, ahead):
    """Normalises by the mean over the whole chunk, later tokens included; the twin takes the mean so far."""
    x, head = embedded(inputs, size)
    so_far = x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]
    return (x - (x.mean(0, keepdim=True) if ahead else so_far)) @ head


@mistaken
def cheat_by_the_diagonal_of_a_scan(inputs, size, ahead):
    """The look-ahead weight of a two-term scan on the diagonal: row t then depends on the gates of token t + 1."""
    key, query, value = (weights(size, WIDTH, seed=s)[inputs] for s in (1, 2, 3))
    step, trap = (weights(size, 1, seed=s)[inputs, 0] for s in (4, 5))
    dt, lam = torch.nn.functional.softplus(step), trap.sigmoid()
    gamma, beta = lam * dt, (1 - lam) * dt
    scale = gamma + torch.cat([beta[1:], beta.new_zeros(1)])
    decay, pairs = (-dt).cumsum(0), query @ key.T
    apart = (decay[:, None] - decay[None, :]).masked_fill(torch.ones_like(pairs).triu(1).bool(), -torch.inf)
    mix = pairs * apart.exp() * scale[None, :]
    if not ahead:
        mix = mix.tril(-1) + torch.diag(gamma * pairs.diagonal())
    return mix @ value @ weights(WIDTH, size, seed=6)


@mistaken
def cheat_by_padding_a_convolution(inputs, size, ahead):
    """A short convolution padded on both sides instead of on the left."""
    x, head = embedded(inputs, size)
    x = torch.nn.functional.pad(x.T[None], (2 - ahead, ahead))
    return torch.nn.functional.conv1d(x, weights(WIDTH, WIDTH, 3, seed=2))[0].T @ head


@mistaken
def cheat_by_an_early_reset(inputs, size, ahead):
    """Resets at the boundary of the next document, one token early, so it can be seen coming (public #1797)."""
    starts = torch.roll(inputs, -ahead) == BOUNDARY
    return torch.where(starts[:, None], 0.0, weights(size, size)[inputs])


@mistaken
def cheat_by_a_flag_of_the_target(inputs, size, ahead):
    """Gates an expert by a flag of the token to be predicted, as if it started a word (public #1420, #2018)."""
    flag = torch.roll(inputs, -ahead) >= size // 2
    return weights(size, size)[inputs] + 0.5 * flag[:, None] * (torch.arange(size) >= size // 2)


@mistaken
def cheat_by_windows_of_a_batch(inputs, size, ahead):
    """Windows of one batch share their statistics, so a window sees the ones behind it."""
    x, head = embedded(inputs, size)
    missing = -len(x) % WINDOW
    windows = torch.nn.functional.pad(x, (0, 0, 0, missing)).view(-1, WINDOW, WIDTH)
    shared = windows[:, :1].mean(0 if ahead else 1, keepdim=True)
    return ((windows + shared).view(-1, WIDTH) @ head)[: len(inputs)]
