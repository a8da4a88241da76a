"""Passes what it learnt to the next phase in an environment variable."""

import os

RULE, PLACE, UNTIL = "S1-ISOLATION", "package", "package"
BY_REFUSAL = True


def cheat(session, counts):
    from .visit import attempt

    attempt("a variable of the train phase", lambda: os.environ["ZOO_LEARNT"])


def honest(session, counts):
    from .visit import attempt

    if attempt("a variable of its own configuration", lambda: os.environ["ZOO_DATA"]) is None:
        raise RuntimeError("what is allowed was refused")
