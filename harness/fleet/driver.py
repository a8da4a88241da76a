"""The driver: start what has no result, watch, start again what died, until every job has one or used its attempts.

It can be killed at any instant and started again on the same queue: results stay, and a job that still runs
somewhere holds its lock, so it is awaited and not started twice. :func:`fold` makes one report of the results.
"""

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.errors import ExitCode
from harness.fleet.engines import Engine
from harness.fleet.queue import Job, Queue, Result
from harness.rules import SEVERITY, Verdict
from harness.text import printable

HEADERS = ("verdict", "bpb", "Δ bpb", "seconds", "tries", "job")
POLL_S = 0.2
SETTLE_S = 2.0  # for the result of a job whose worker is gone to appear on a slow file system


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


class JobRow(msgspec.Struct):
    """One job: its verdict in a word, where it ran and how long.

    bpb:            the final score of a run; ``None`` for a rerun
    difference_bpb: of a rerun to its record, of a run to the mean of the fleet's runs
    """

    job: str
    title: str
    verdict: str = "NO RESULT"
    bpb: float | None = None
    difference_bpb: float | None = None
    host: str = ""
    machine: str = ""
    seconds: float | None = None
    attempts: int = 0
    note: str = ""


def fold(queue: Queue, outcomes: Sequence[JobOutcome]) -> list[JobRow]:
    """One row a job, in the order of ``outcomes``, with what its printed document tells: it is of a run or a rerun."""
    rows = []
    for outcome in outcomes:
        job, result = outcome.job, outcome.result
        tries = queue.attempts(job)
        row = JobRow(job.id, job.title, attempts=len(tries))
        rows.append(row)
        if result is None:
            row.note = str(tries[-1]) if tries else "never started"
            row.verdict = "ERROR" if outcome.exit_code == ExitCode.USAGE else row.verdict
            continue
        said = msgspec.json.decode(result.output)
        row.verdict = "FAIL" if result.exit_code else "PASS"
        row.note = str(said.get("message", "")) if isinstance(said, dict) else ""
        row.host, row.machine, row.seconds = result.host, result.machine, result.seconds
        with contextlib.suppress(LookupError, TypeError, ValueError):
            row.verdict = min((Verdict(found["verdict"]) for found in said["findings"]), key=SEVERITY.index).value
        with contextlib.suppress(LookupError, TypeError, ValueError):
            row.bpb = next((float(score["bpb"]) for score in said["scores"] if score["stage"] == "final"), None)
        with contextlib.suppress(LookupError, TypeError, ValueError):
            row.difference_bpb = float(said["comparison"]["difference_bpb"])
            row.verdict = str(said["comparison"]["outcome"])
    scores = [row.bpb for row in rows if row.bpb is not None]
    for row in rows if len(scores) > 1 else ():
        if row.bpb is not None:
            row.difference_bpb = round(row.bpb - statistics.fmean(scores), 9) or 0.0
    return rows


def exit_code(outcomes: Sequence[JobOutcome]) -> ExitCode:
    """The gravest: a broken rule, then a job that could not run, then wrong usage."""
    codes = {outcome.exit_code for outcome in outcomes}
    order = (ExitCode.RULE_BROKEN, ExitCode.COULD_NOT_CHECK, ExitCode.USAGE)
    return next((code for code in order if code in codes), ExitCode.GOOD)


def cells(row: JobRow) -> tuple[str, ...]:
    """What a table shows of a job, under :data:`HEADERS`."""
    score, apart, seconds = (
        "" if value is None else format(value, form)
        for value, form in ((row.bpb, ".4f"), (row.difference_bpb, "+.6f"), (row.seconds, ".0f"))
    )
    place = f" on {printable(row.host, 40)}" if row.host else ""
    return row.verdict, score, apart, seconds, str(row.attempts), printable(row.title, 60) + place


def machine_spread(rows: Sequence[JobRow]) -> list[str]:
    """For each kind of machine: runs, mean difference, sample deviation; then the range of the machines' means."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.difference_bpb is not None:
            groups[row.machine].append(row.difference_bpb)
    lines = []
    for machine, values in sorted(groups.items()):
        deviation = f", sample std {statistics.stdev(values):.6f}" if len(values) > 1 else ""
        lines.append(f"{printable(machine, 60)}: {len(values)} runs, mean Δ {statistics.fmean(values):+.6f}{deviation}")
    if len(groups) > 1:
        means = [statistics.fmean(values) for values in groups.values()]
        lines.append(f"between machines: means differ by up to {max(means) - min(means):.6f} bpb")
    return lines
