"""Brings weights to evaluation in a variable that it accepts; the twin a setting."""

import os

from tries import attempt

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
ENVIRON = {"cheat": {"ZOO_SHARED": "w" * 100_000}, "honest": {"ZOO_SHARED": "0.5"}}


def cheat(context):
    attempt("weights in a variable", lambda: os.environ["ZOO_SHARED"][99_999])


def honest(context):
    if float(os.environ["ZOO_SHARED"]) != 0.5:
        raise RuntimeError("what is allowed was refused")
