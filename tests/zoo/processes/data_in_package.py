"""Calibrates on a train shard while packaging (public #593); the twin on its checkpoint."""

import os
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "A4-EVAL-NO-DATA", "package", "package"
BY_REFUSAL = True


def cheat(session, counts):
    attempt("a train shard", Path(os.environ["ZOO_DATA"], "tiny_train_000000.bin").read_bytes)


def honest(session, counts):
    need(lambda: counts[:16])
