"""Leaves an abstract socket in training that packaging connects to; the twin uses a pipe."""

import os
import socket

RULE, PLACE, UNTIL = "S1-ISOLATION", ("train", "package"), "package"
BY_REFUSAL = True
NAME = "\0zoo"


def cheat(session, given):
    from .visit import attempt

    if session.phase == "package":
        attempt("a socket of training", lambda: socket.socket(socket.AF_UNIX).connect(NAME))
    elif os.fork() == 0:
        server = socket.socket(socket.AF_UNIX)  # training may have some of its own
        server.bind(NAME)
        server.listen()
        server.accept()


def honest(session, given):
    from .visit import attempt

    if attempt("a pipe", os.pipe) is None:
        raise RuntimeError("what is allowed was refused")
