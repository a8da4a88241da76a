"""Windows of one batch share their statistics, so a window sees the ones behind it."""

from functools import partial

from zoo_models import WIDTH, Stateless, weights

RULE = "C1-CAUSAL"
WINDOW = 32


def build(context, *, axis):
    embed, head = weights(context.vocab_size, WIDTH), weights(WIDTH, context.vocab_size, seed=1)

    def logits(inputs):
        padding = -len(inputs) % WINDOW
        x = embed[inputs.new_zeros(len(inputs) + padding).index_copy(0, inputs.new_tensor(range(len(inputs))), inputs)]
        x = x.view(-1, WINDOW, WIDTH)
        shared = x[:, :1].mean(axis, keepdim=True)
        return ((x + shared).view(-1, WIDTH) @ head)[: len(inputs)]

    return Stateless(logits)


cheat, honest = partial(build, axis=0), partial(build, axis=1)
