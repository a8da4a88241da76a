"""A forked sibling goes on training behind the phase; the twin waits for it."""

import os
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


def cheat(session):
    if os.fork() == 0:
        beat(session, 30)
    time.sleep(0.2)


def honest(session):
    child = os.fork()
    if child == 0:
        beat(session, 0.1)
        os._exit(0)
    os.waitpid(child, 0)
