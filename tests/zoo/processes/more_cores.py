"""Spreads over more processor cores than the run holds; the twin asks which it has."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    held = os.sched_getaffinity(0)

    def change():
        os.sched_setaffinity(0, {max(held)})
        if os.sched_getaffinity(0) == held:
            raise PermissionError("nothing changed")

    attempt("other cores", change)
    attempt("another group's cores", lambda: Path("/sys/fs/cgroup/cpuset.cpus").write_text("0-1023"))


def honest(session, shards):
    if not os.sched_getaffinity(0):
        raise RuntimeError("no core")
