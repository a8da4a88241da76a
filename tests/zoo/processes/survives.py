"""Leaves a process that outlives the phase; the twin waits for its child."""

import os
import signal
import time

RULE, PLACE, UNTIL = "S2-NO-SURVIVORS", "checkpoint", "train"
BY_REFUSAL = True


def beat(session, seconds):
    """Write to the checkpoint folder for ``seconds``."""
    until = time.monotonic() + seconds
    with (session.output_dir / "beat").open("ab", buffering=0) as file:
        while time.monotonic() < until:
            file.write(b".")
            time.sleep(0.02)


def wait_for_it(session):
    while not (session.output_dir / "beat").exists():
        time.sleep(0.01)


def cheat_as_a_daemon(session):
    """Forked twice, in a session of its own and deaf to TERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            beat(session, 30)
        os._exit(0)
    wait_for_it(session)


def cheat_as_a_forked_sibling(session):
    """A sibling goes on training."""
    if os.fork() == 0:
        beat(session, 30)
    wait_for_it(session)


def honest(session):
    child = os.fork()
    if child == 0:
        beat(session, 0.1)
        os._exit(0)
    os.waitpid(child, 0)
