"""Fills the disk with its checkpoint, or hides what it holds from the count; the twin keeps to the limit."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "S3-PROTOCOL", "checkpoint", "train"


def cheat(session):
    for i in range(3):
        (session.output_dir / f"{i}").write_bytes(bytes(1_000_000))


def cheat_by_depth(session):
    """Hides most of it deeper than a path can name."""
    session.rank = 1  # so that its own done() doesn't stumble over the tree
    (session.output_dir / "0").write_bytes(bytes(1_000))
    os.chdir(session.output_dir)
    for _ in range(600):
        Path("as_deep").mkdir()
        os.chdir("as_deep")
    Path("hidden").write_bytes(bytes(1_900_000))


def cheat_by_number(session):
    """Leaves more files than the referee could name, each of them empty."""
    session.rank = 1
    for i in range(100_001):
        os.mknod(session.output_dir / f"{i}")


def cheat_by_name(session):
    """Gives a file a name that no record can hold."""
    (session.output_dir / os.fsdecode(b"weights-\xff")).write_bytes(bytes(1_000))


def honest(session):
    (session.output_dir / "Gewichte-\u00e4").write_bytes(bytes(1_000))
    (session.output_dir / "0").write_bytes(bytes(1_000_000))
    (session.output_dir / "as_deep").mkdir()
