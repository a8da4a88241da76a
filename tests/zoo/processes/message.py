"""Writes into its channel what is no message; the twin the longest one that is."""

import os
import socket

RULE, PLACE, UNTIL = "S3-PROTOCOL", "train", "train"


def send(session, data):
    sock = socket.socket(fileno=os.dup(session.environment.channel_fd))
    sock.setblocking(True)
    sock.send(data)


def cheat_garbled(session, shards):
    """Sends 512 random bytes."""
    send(session, os.urandom(512))


def cheat_huge(session, shards):
    """Sends a message of 64 kB."""
    send(session, b"GOLF" * 16384)


def honest(session, shards):
    session.progress(step=1, text="x" * 4096)
