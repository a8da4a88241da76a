"""The driver: start what has no result, watch, start again what died, until every job has one or used its attempts.

It can be killed at any instant and started again on the same queue: results stay, and a job that still runs
somewhere holds its lock, so it is awaited and not started twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ExitCode
from harness.fleet.engines import Engine
from harness.fleet.queue import Job, Queue, Result

POLL_S = 0.2
SETTLE_S = 2.0
"""How long a job whose worker is gone is given for its result to appear on a slow file system."""


@dataclass(frozen=True)
class JobOutcome:
    """A job and its result; ``None`` when every attempt failed, or one was refused as wrong usage.

    exit_code: of the result; without one 2 for wrong usage, else 3
    """

    job: Job
    result: Result | None
    exit_code: int


def drive(
    queue: Queue,
    jobs: Sequence[Job],
    engine: Engine,
    *,
    attempts: int,
    changed: Callable[[int, str], None] = lambda *_: None,
) -> list[JobOutcome]:
    """Run ``jobs`` until each has a result or was started ``attempts`` times by this driver.

    Wrong usage is not a result and is not tried again; the next drive tries it, in case it has been put right.

    changed: called with the number of finished jobs and a few words whenever something happened
    """
    handles, gone_since = dict[str, Any](), dict[str, float]()
    started = dict.fromkeys((job.id for job in jobs), 0)
    finished: dict[str, JobOutcome] = {}

    def finish(job: Job, result: Result | None, words: str, code: int = ExitCode.COULD_NOT_CHECK) -> None:
        finished[job.id] = JobOutcome(job, result, result.exit_code if result else code)
        changed(len(finished), f"{job.title}: {words}")

    def is_over(job: Job) -> bool:
        """Whether a started job has its result, or neither its worker nor another one runs any more."""
        alive = engine.alive(handles[job.id])
        if queue.result(job) is not None and not alive:
            return True
        if alive or queue.is_running(job):
            gone_since.pop(job.id, None)
            return False
        return time.monotonic() - gone_since.setdefault(job.id, time.monotonic()) >= SETTLE_S

    while len(finished) < len(started):
        for job in sorted(jobs, key=lambda job: started[job.id]):  # what failed comes after what was not tried yet
            if job.id in finished or (job.id in handles and not is_over(job)):
                continue
            over = handles.pop(job.id, None) is not None
            if (result := queue.result(job)) is not None:
                finish(job, result, f"exit code {result.exit_code} on {result.host}")
            elif over and (tries := queue.attempts(job)) and tries[-1].exit_code == ExitCode.USAGE:
                finish(job, None, "refused as wrong usage", ExitCode.USAGE)
            elif over and started[job.id] >= attempts:
                finish(job, None, f"no result after {started[job.id]} attempts")
            elif over:
                changed(len(finished), f"{job.title}: attempt {started[job.id]} gave no result, again")
            elif not queue.is_running(job) and engine.room(job):
                handles[job.id] = engine.start(job)
                gone_since.pop(job.id, None)
                started[job.id] += 1
        time.sleep(POLL_S)
    return [finished[job.id] for job in jobs]
