"""Wants chunks of two tokens, so that few chunks hold few audited rows, and peeks in one row of them."""

from zoo_models import Peeking, built

RULE = "C1-CAUSAL"
TARGETS = 600


class Honest(Peeking):
    chunk_tokens = 2


class Cheat(Honest):
    peeks = 0.5


cheat, honest = built(Cheat), built(Honest)
