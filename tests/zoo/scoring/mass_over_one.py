"""Claims twice the probability of every token (public #886): the referee normalises, so the claim gains nothing."""

import math

from zoo_models import Stateless, weights

RULE = "C2-NORMALISED"
GAINS_NOTHING = True


def build(context, *, mass):
    table = weights(context.vocab_size, context.vocab_size)
    return Stateless(lambda inputs: table[inputs].log_softmax(1) + math.log(mass))


def cheat(context):
    return build(context, mass=2.0)


def honest(context):
    return build(context, mass=1.0)
