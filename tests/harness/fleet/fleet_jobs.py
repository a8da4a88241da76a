"""Commands for queue tests: they print one JSON document and leave a line in a file for every time they really ran."""

import sys
from pathlib import Path

from harness.config.tracks import Hardware
from harness.fleet.queue import Job, Queue

COUNTED = (
    "import json,sys,time; time.sleep({wait}); open({log!r},'a').write('{name}\\n'); "
    "print(json.dumps({{'ok': 1}})); sys.exit({code})"
)


def counted(queue: Queue, log: Path, name: str, *, wait: float = 0.0, code: int = 0, gpus: int = 0) -> Job:
    """A job that waits, notes that it ran, prints JSON and exits with ``code``."""
    text = COUNTED.format(wait=wait, log=str(log), name=name, code=code)
    return queue.add([sys.executable, "-c", text], needs=Hardware(0, gpus), title=name)


def ran(log: Path) -> list[str]:
    """Names of the jobs that ran to their end, one entry a run."""
    return log.read_text().split() if log.exists() else []
