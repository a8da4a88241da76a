"""Goes through the open files of other processes in /proc; the twin through its own descriptors."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "A4-TRAIN-NO-VAL", "train", "train"
BY_REFUSAL = True


def search():
    """The first open file of any process that is a validation shard."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if "_val_" in str(link.readlink()):
                return link.read_bytes()
        except OSError:
            continue
    raise LookupError("no process with such a file in sight")


def cheat(session, shards):
    from .visit import attempt

    attempt("a validation shard that another process holds open", search)


def honest(session, shards):
    from .visit import attempt

    if attempt("its own descriptors", lambda: [os.fstat(shard.fd).st_size for shard in shards]) is None:
        raise RuntimeError("what is allowed was refused")
