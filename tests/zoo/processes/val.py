"""Reaches for the validation shard in training; the twin for its own shard, folder, links and descriptors."""

import os
from pathlib import Path

from tries import attempt, need

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


def cheat_by_path(session, shards):
    """Opens the validation shard by its path."""
    attempt("the validation shard", Path(os.environ["ZOO_DATA"], "tiny_val_000000.bin").read_bytes)


def cheat_by_glob(session, shards):
    """Looks for shards where data sets lie (public #44)."""
    attempt("the data folder", lambda: os.listdir(os.environ["ZOO_DATA"]))


def cheat_by_proc_fd(session, shards):
    """Goes through the open files of other processes in /proc."""
    attempt("a validation shard that another process holds open", search)


def cheat_by_symlink(session, shards):
    """Puts a symbolic link to the validation shard into its output folder."""
    link = session.output_dir / "link"
    link.symlink_to(Path(os.environ["ZOO_DATA"], "tiny_val_000000.bin"))
    attempt("a link to the validation shard", link.read_bytes)


def honest(session, shards):
    link = session.output_dir / "link"
    link.symlink_to(Path(__file__))
    need(link.read_bytes)
    need(lambda: os.pread(shards[0].fd, 16, 0))
    need(lambda: os.listdir(Path(__file__).parent))
    need(lambda: [os.fstat(shard.fd).st_size for shard in shards])
