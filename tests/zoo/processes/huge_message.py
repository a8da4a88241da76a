"""Sends a message of 64 kB; the twin a whole one with the longest text."""

import os
import socket

RULE, PLACE, UNTIL = "S3-PROTOCOL", "train", "train"


def cheat(session, shards):
    sock = socket.socket(fileno=os.dup(session.environment.channel_fd))
    sock.setblocking(True)
    sock.send(b"GOLF" * 16384)


def honest(session, shards):
    session.progress(step=1, text="x" * 4096)
