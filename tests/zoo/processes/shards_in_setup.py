"""Opens the train shard during set-up, before the clock; the twin reads its own code then."""

import os
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "A1-SETUP-NO-DATA", "setup", "train"
BY_REFUSAL = True


def cheat(session):
    attempt("a train shard", Path(os.environ["ZOO_DATA"], "tiny_train_000000.bin").read_bytes)


def honest(session):
    need(Path(__file__).read_bytes)
