"""Packages longer than the clock allows."""

import time

RULE, PLACE, UNTIL = "A2-EVAL-CLOCK", "package", "package"
LIMITS = {"package_s": 4.0}


def cheat(session, counts):
    time.sleep(60)


def honest(session, counts):
    time.sleep(0.1)
