"""Reads the referee's signing key; the twin its own code."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    attempt("a signing key", Path(os.environ["ZOO_KEYS"], "private.pem").read_bytes)


def honest(session, shards):
    from .visit import attempt

    if attempt("its own code", Path(__file__).read_bytes) is None:
        raise RuntimeError("what is allowed was refused")
