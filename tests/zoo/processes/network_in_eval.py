"""Sends a datagram in evaluation; the twin uses a pipe."""

import os
import socket

from tries import attempt, need

RULE, PLACE, UNTIL = "A4-NO-NETWORK", "build", "eval"
BY_REFUSAL = True


def cheat(context):
    attempt("UDP", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))


def honest(context):
    need(os.pipe)
