"""Looks for shards where data sets lie (public #44); the twin lists its own code."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "A4-TRAIN-NO-VAL", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    attempt("the data folder", lambda: os.listdir(os.environ["ZOO_DATA"]))


def honest(session, shards):
    from .visit import attempt

    if attempt("its own folder", lambda: os.listdir(Path(__file__).parent)) is None:
        raise RuntimeError("what is allowed was refused")
