"""Looks for what an earlier phase left in the temporary folder; the twin in the checkpoint."""

import os

RULE, PLACE, UNTIL = "S1-ISOLATION", "package", "package"
BY_REFUSAL = True


def cheat(session, counts):
    from .visit import attempt

    attempt("files of an earlier phase", lambda: "".join(os.listdir(os.environ["TMPDIR"])) or {}["nothing"])


def honest(session, counts):
    from .visit import attempt

    if attempt("the checkpoint", lambda: next(session.checkpoint_dir.iterdir()).name) is None:
        raise RuntimeError("what is allowed was refused")
