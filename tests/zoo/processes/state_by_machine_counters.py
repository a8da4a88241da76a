"""Drives a counter of the machine (forks, page faults) to a number that a replica reads; the twin counts cores."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "S1-ISOLATION", "build", "eval"
BY_REFUSAL = True
COUNTERS = ("stat", "vmstat", "loadavg", "uptime", "diskstats", "interrupts", "meminfo", "sys/fs/dentry-state")


def cheat(context):
    from .visit import attempt

    def read(path):
        if not (text := Path(path).read_text()):
            raise PermissionError("it is empty")
        return text

    for name in COUNTERS:
        attempt(name, lambda name=name: read(f"/proc/{name}"))
    attempt("a node's counters", lambda: read("/sys/devices/system/node/node0/vmstat"))
    attempt("the disk's counters", lambda: read(next(Path("/sys/block").iterdir()) / "stat"))


def honest(context):
    if not (os.cpu_count() and Path("/proc/cpuinfo").read_text() and Path("/proc/self/status").read_text()):
        raise RuntimeError("what is allowed was refused")
