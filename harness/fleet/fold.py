"""One report from a fleet's results: every job, and the spread between and within machines."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from tabulate import tabulate

from harness.errors import ExitCode
from harness.fleet.driver import JobOutcome
from harness.fleet.queue import Queue
from harness.fleet.worker import describe_attempt
from harness.text import printable


class JobRow(msgspec.Struct, frozen=True):
    """One job: its verdict in a word, where it ran and how long.

    bpb:            the final score of a run; ``None`` for a rerun
    difference_bpb: of a rerun to its record, of a run to the mean of the fleet's runs
    """

    job: str
    title: str
    verdict: str
    bpb: float | None
    difference_bpb: float | None
    host: str
    machine: str
    seconds: float | None
    attempts: int
    note: str


def fold(queue: Queue, outcomes: Sequence[JobOutcome]) -> list[JobRow]:
    """One row a job, in the order of ``outcomes``."""
    rows = [_row(queue, outcome) for outcome in outcomes]
    scores = [row.bpb for row in rows if row.bpb is not None]
    if len(scores) < 2:
        return rows
    mean = statistics.fmean(scores)
    return [
        row if row.bpb is None else msgspec.structs.replace(row, difference_bpb=round(row.bpb - mean, 9) or 0.0)
        for row in rows
    ]


def exit_code(outcomes: Sequence[JobOutcome]) -> ExitCode:
    """The gravest: a broken rule, then a job that could not run, then wrong usage."""
    codes = {outcome.exit_code for outcome in outcomes}
    order = (ExitCode.RULE_BROKEN, ExitCode.COULD_NOT_CHECK, ExitCode.USAGE)
    return next((code for code in order if code in codes), ExitCode.GOOD)


def render(rows: Sequence[JobRow]) -> str:
    """A table of jobs, then one line a kind of machine."""
    table = [
        (
            printable(row.title, 46),
            row.verdict,
            "" if row.bpb is None else f"{row.bpb:.4f}",
            "" if row.difference_bpb is None else f"{row.difference_bpb:+.6f}",
            printable(row.host, 20),
            "" if row.seconds is None else f"{row.seconds:.0f}",
            str(row.attempts),
            printable(row.note, 60),
        )
        for row in rows
    ]
    headers = ("job", "verdict", "bpb", "Δ bpb", "host", "seconds", "attempts", "")
    text = tabulate(table, headers=headers, disable_numparse=True)
    return "\n".join([text, "", *machine_spread(rows)])


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
    job, result = outcome.job, outcome.result
    tries = queue.attempts(job)
    if result is None:
        note = describe_attempt(tries[-1]) if tries else "never started"
        verdict = "ERROR" if outcome.exit_code == ExitCode.USAGE else "NO RESULT"
        return JobRow(job.id, job.title, verdict, None, None, "", "", None, len(tries), note)
    said = msgspec.json.decode(result.output)
    return JobRow(
        job.id,
        job.title,
        *_verdict(result.exit_code, result.output),
        result.host,
        result.machine,
        result.seconds,
        len(tries),
        str(said.get("message", "")) if isinstance(said, dict) else "",
    )


def _verdict(code: int, output: msgspec.Raw) -> tuple[str, float | None, float | None]:
    """(verdict, final score, difference), as far as the printed document is of a run or a rerun."""
    document, final = msgspec.json.decode(output), None
    with contextlib.suppress(LookupError, TypeError, ValueError):
        compared = document["comparison"]
        return str(compared["outcome"]), None, float(compared["difference_bpb"])
    with contextlib.suppress(LookupError, TypeError, ValueError):
        final = next((float(score["bpb"]) for score in document["scores"] if score["stage"] == "final"), None)
    return {0: "PASS", 1: "FAIL"}[code], final, None
