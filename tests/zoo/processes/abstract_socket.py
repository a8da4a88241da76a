"""Binds an abstract socket that a later phase could connect to; the twin uses a pipe."""

import os
import socket

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    attempt("an abstract socket", lambda: socket.socket(socket.AF_UNIX).bind("\0zoo"))


def honest(session, shards):
    from .visit import attempt

    if attempt("a pipe", os.pipe) is None:
        raise RuntimeError("what is allowed was refused")
