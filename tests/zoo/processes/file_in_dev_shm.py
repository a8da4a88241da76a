"""Leaves a file in /dev/shm for the next phase; the twin in its checkpoint."""

import contextlib
from pathlib import Path

RULE, PLACE, UNTIL = "S1-ISOLATION", ("train", "package"), "package"
BY_REFUSAL = True


def cheat(session, *_):
    from .visit import attempt

    if session.phase == "package":
        attempt("a note of the train phase", Path("/dev/shm/zoo-note").read_text)
        return
    with contextlib.suppress(OSError):
        Path("/dev/shm/zoo-note").write_text("learnt")


def honest(session, *_):
    if session.phase == "package":
        (session.checkpoint_dir / "note").read_text()
    else:
        (session.output_dir / "note").write_text("learnt")
