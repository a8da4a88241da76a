"""Claims twice the probability of every token (public #886): the referee normalises, so the claim gains nothing."""

import math
from functools import partial

from zoo_models import Stateless, weights

RULE = "C2-NORMALISED"
GAINS_NOTHING = True


def build(context, *, mass):
    table = weights(context.vocab_size, context.vocab_size)
    return Stateless(lambda inputs: table[inputs].log_softmax(1) + math.log(mass))


cheat, honest = partial(build, mass=2.0), partial(build, mass=1.0)
