"""Opens the validation shard in evaluation; the twin opens its model."""

import os
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "A4-EVAL-NO-DATA", "build", "eval"
BY_REFUSAL = True


def cheat(context):
    attempt("the validation shard", Path(os.environ["ZOO_DATA"], "tiny_val_000000.bin").read_bytes)


def honest(context):
    need(context.model_file.read_bytes)
