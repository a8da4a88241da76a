"""Puts a symbolic link to the validation shard into its output folder; the twin links its own file."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "A4-TRAIN-NO-VAL", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    link = session.output_dir / "link"
    link.symlink_to(Path(os.environ["ZOO_DATA"], "tiny_val_000000.bin"))
    attempt("a link to the validation shard", link.read_bytes)


def honest(session, shards):
    from .visit import attempt

    link = session.output_dir / "link"
    link.symlink_to(Path(__file__))
    if attempt("a link to its own file", link.read_bytes) is None:
        raise RuntimeError("what is allowed was refused")
