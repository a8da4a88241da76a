"""Stops itself with SIGSTOP across the deadline; the twin is stopped for a moment only."""

import os
import signal
import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}


def cheat(session, shards):
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def honest(session, shards):
    if (child := os.fork()) == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
