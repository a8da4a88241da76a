"""Ignores TERM and computes on in the grace; the twin computes a little."""

import signal

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}


def cheat(session, shards):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        sum(range(1000))


def honest(session, shards):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sum(range(1000))
