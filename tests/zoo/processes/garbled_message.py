"""Sends 512 random bytes; the twin a message."""

import os
import socket

RULE, PLACE, UNTIL = "S3-PROTOCOL", "train", "train"


def cheat(session, shards):
    sock = socket.socket(fileno=os.dup(session.environment.channel_fd))
    sock.setblocking(True)
    sock.send(os.urandom(512))


def honest(session, shards):
    session.progress(step=1)
