"""Raises the targets of 6 chunks of 200 alone, by a factor of three each: no chunk stands out."""

from zoo_models import Counting, built, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 200 * 16
ESCAPE_NATS = 3e-2


class Many(Counting):
    chunk_tokens = 16


class Cheat(Many):
    def leak(self, logits, inputs, chunk):
        if chunk in (60, 61, 90, 125, 160, 180):
            raise_targets(logits, inputs, 1.0)


cheat = built(Cheat)
honest = built(Many)
