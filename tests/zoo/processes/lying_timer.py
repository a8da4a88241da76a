"""Patches the time functions so that its own clock stands still; the twin reads the true one."""

import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}
TWIN_LIMITS = {"train_s": 12.0}


def cheat(session, shards):
    now, sleep = time.monotonic_ns(), time.sleep
    time.monotonic_ns = time.time_ns = lambda: now
    while session.remaining_s() > 1:
        sleep(0.05)


def honest(session, shards):
    while session.remaining_s() > 10:
        time.sleep(0.05)
