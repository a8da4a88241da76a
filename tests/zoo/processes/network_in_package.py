"""Connects to a server while packaging; the twin uses a pipe."""

import os
import socket

from tries import attempt, need

RULE, PLACE, UNTIL = "A4-NO-NETWORK", "package", "package"
BY_REFUSAL = True


def cheat(session, counts):
    attempt("the network", lambda: socket.create_connection(("127.0.0.1", 80), 1))


def honest(session, counts):
    need(os.pipe)
