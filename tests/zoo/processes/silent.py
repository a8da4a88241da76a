"""Answers nothing when a chunk is revealed; the twin only after a moment."""

import time

RULE, PLACE, UNTIL = "S3-PROTOCOL", "score", "eval"
LIMITS = {"message_s": 4.0}


def cheat(inputs):
    time.sleep(60)


def honest(inputs):
    time.sleep(0.05)
