"""Trains on synthetic data in set-up without an end; the twin for a moment."""

import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "setup", "train"
LIMITS = {"setup_s": 4.0}


def cheat(session):
    time.sleep(60)


def honest(session):
    time.sleep(0.1)
