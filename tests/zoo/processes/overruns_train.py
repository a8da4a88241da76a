"""Trains on after the clock; the twin looks at it."""

import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}


def cheat(session, shards):
    time.sleep(60)


def honest(session, shards):
    time.sleep(min(0.2, session.remaining_s() / 2))
