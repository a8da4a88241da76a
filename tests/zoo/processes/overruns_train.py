"""Goes on behind the training clock; the twin is as deaf and as stopped, but in time."""

import os
import signal
import time

RULE, PLACE, UNTIL = "A1-TRAIN-CLOCK", "train", "train"
LIMITS = {"train_s": 2.0}


def cheat(session, shards):
    """Trains on after the clock."""
    time.sleep(60)


def cheat_deaf_to_term(session, shards):
    """Ignores TERM and computes on in the grace."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        sum(range(1000))


def cheat_and_saves_in_the_grace(session, shards):
    """Says done when TERM comes, after the limit."""
    signal.signal(signal.SIGTERM, lambda *_: session.done())
    time.sleep(60)


def cheat_and_stops_itself(session, shards):
    """Stops itself with SIGSTOP across the deadline."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def cheat_by_a_lying_timer(session, shards):
    """Patches the time functions so that its own clock stands still."""
    now, sleep = time.monotonic_ns(), time.sleep
    time.monotonic_ns = time.time_ns = lambda: now
    while session.remaining_s() > 1:
        sleep(0.05)


def honest(session, shards):
    if (child := os.fork()) == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(min(0.2, session.remaining_s() / 2))
