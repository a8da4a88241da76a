"""Opens the validation shard by its path; the twin reads the shard that it was handed."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "A4-TRAIN-NO-VAL", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    attempt("the validation shard", Path(os.environ["ZOO_DATA"], "tiny_val_000000.bin").read_bytes)


def honest(session, shards):
    from .visit import attempt

    if attempt("the train shard", lambda: os.pread(shards[0].fd, 16, 0)) is None:
        raise RuntimeError("what is allowed was refused")
