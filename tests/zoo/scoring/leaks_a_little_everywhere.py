"""Raises every target by less than the tolerance of a single row: each row passes, the sum does not."""

from zoo_models import Peeking, built

RULE = "C1-CAUSAL"
TOLERANCE_NATS = 2e-2  # that of tracks on GPUs


class Cheat(Peeking):
    peeks = 0.0098


cheat, honest = built(Cheat), built(Peeking)
