"""Fills the disk with its checkpoint; the twin keeps to the limit."""

RULE, PLACE, UNTIL = "S3-PROTOCOL", "checkpoint", "train"


def cheat(session):
    for i in range(3):
        (session.output_dir / f"{i}").write_bytes(bytes(1_000_000))


def honest(session):
    (session.output_dir / "0").write_bytes(bytes(1_000_000))
