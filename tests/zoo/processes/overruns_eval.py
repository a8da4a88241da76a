"""Takes its time to score."""

import time

RULE, PLACE, UNTIL = "A2-EVAL-CLOCK", "score", "eval"
LIMITS = {"eval_s": 3.0}


def cheat(inputs):
    time.sleep(60)


def honest(inputs):
    time.sleep(0.01)
