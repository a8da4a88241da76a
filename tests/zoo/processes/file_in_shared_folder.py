"""Leaves a file in a folder that later phases could read; the twin in its own output folder."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    attempt("a shared folder", lambda: Path(os.environ["ZOO_SHARED"], "note").write_text("x"))


def honest(session, shards):
    from .visit import attempt

    if attempt("its output folder", lambda: (session.output_dir / "note").write_text("x")) is None:
        raise RuntimeError("what is allowed was refused")
