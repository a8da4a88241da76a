"""Says done when TERM comes, after the limit; the twin in time."""

import signal
import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}


def cheat(session, shards):
    signal.signal(signal.SIGTERM, lambda *_: session.done())
    time.sleep(60)


def honest(session, shards):
    signal.signal(signal.SIGTERM, lambda *_: session.done())
