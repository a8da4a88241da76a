"""One report from a fleet's results: every job, and the spread between and within machines."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from harness.errors import ExitCode
from harness.fleet.driver import JobOutcome
from harness.fleet.queue import Queue
from harness.rules import SEVERITY, Verdict
from harness.text import printable

HEADERS = ("verdict", "bpb", "Δ bpb", "seconds", "tries", "job")


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
    """One row a job, in the order of ``outcomes``."""
    rows = [_row(queue, outcome) for outcome in outcomes]
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


def _row(queue: Queue, outcome: JobOutcome) -> JobRow:
    """As much as the printed document tells: it is of a run or a rerun."""
    job, result = outcome.job, outcome.result
    tries = queue.attempts(job)
    row = JobRow(job.id, job.title, attempts=len(tries))
    if result is None:
        row.note = str(tries[-1]) if tries else "never started"
        if outcome.exit_code == ExitCode.USAGE:
            row.verdict = "ERROR"
        return row
    said = msgspec.json.decode(result.output)
    row.verdict, row.note = (
        "FAIL" if result.exit_code else "PASS",
        str(said.get("message", "")) if isinstance(said, dict) else "",
    )
    row.host, row.machine, row.seconds = result.host, result.machine, result.seconds
    with contextlib.suppress(LookupError, TypeError, ValueError):
        row.verdict = min((Verdict(found["verdict"]) for found in said["findings"]), key=SEVERITY.index).value
    with contextlib.suppress(LookupError, TypeError, ValueError):
        row.bpb = next((float(score["bpb"]) for score in said["scores"] if score["stage"] == "final"), None)
    with contextlib.suppress(LookupError, TypeError, ValueError):
        row.difference_bpb = float(said["comparison"]["difference_bpb"])
        row.verdict = str(said["comparison"]["outcome"])
    return row
