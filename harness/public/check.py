"""Check folders: load each, run every check, put the findings in order; many folders on several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from harness.errors import HarnessError
from harness.public.checks import (
    claims,
    clock,
    code,
    config,
    consistency,
    files,
    marks,
    readmefacts,
    readmefigures,
    score,
    seedfigures,
    size,
    stated,
    statistics,
)
from harness.public.checks.against import check_against
from harness.public.files import FOLDER_SECONDS
from harness.public.findings import ORDER, Findings, FolderReport, Found
from harness.public.readings import Readings
from harness.public.record import Record, load_record
from harness.rules import Verdict

CHECKS: tuple[Callable[[Record], None], ...] = (
    files.check,
    clock.check,
    size.check,
    score.check,
    marks.check,
    stated.check,
    claims.check,
    seedfigures.check,
    readmefigures.check,
    config.check,
    statistics.check,
    readmefacts.check,
    code.check,
    consistency.check,
)
FEW = 6
"""Up to this many folders are checked in this process: starting others would take longer."""


def check_folder(path: Path, readings: Readings | None = None, against: Path | None = None) -> FolderReport:
    """Check one folder, optionally against the record folder that it claims to beat.

    Raises ``UsageError`` when ``path`` is no folder. Whatever the folder holds, the result is a report.
    """
    record = load_record(path, readings or Readings())
    for i, check in enumerate(CHECKS):
        _run(check, record)
        if record.folder.late():
            _out_of_time(record, CHECKS[i:])
            break
    if against is not None:
        check_against(record, against)
    return FolderReport(str(path), record.track, ordered(record.out), facts_of(record))


def _name(check: Callable[[Record], None]) -> str:
    return check.__module__.rsplit(".", 1)[-1]


def _out_of_time(record: Record, left: Sequence[Callable[[Record], None]]) -> None:
    record.out.add(
        Verdict.ERROR,
        "A9-READABLE",
        f"not wholly checked within {FOLDER_SECONDS:g} s: {', '.join(_name(check) for check in left)}.",
        remedy="Ship files of the usual size; with the machine busy, check again.",
    )


def _run(check: Callable[[Record], None], record: Record) -> None:
    """One check. What it can't digest is an ERROR of this folder, not the end of all others."""
    try:
        check(record)
    except HarnessError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        message = f"the check of {_name(check)} broke off: {type(error).__name__}: {str(error)[:120]}."
        record.out.add(Verdict.ERROR, "A9-READABLE", message, remedy="Please report this with the folder.")


def check_folders(paths: Sequence[Path], readings: Readings, against: Path | None = None) -> Iterator[FolderReport]:
    """Check several folders, in the order given, on as many processes as there are cores."""
    if len(paths) <= FEW:
        yield from (check_folder(path, readings, against) for path in paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    workers = min(len(os.sched_getaffinity(0)), 8)
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(partial(_check_or_raise, readings=readings, against=against), paths, chunksize=2)


def _check_or_raise(path: Path, readings: Readings, against: Path | None) -> FolderReport:
    try:
        return check_folder(path, readings, against)
    except HarnessError as error:
        raise type(error)(error.message, remedy=error.remedy) from None


def ordered(out: Findings) -> list[Found]:
    """Findings without repeats, gravest first, then by rule, file and line."""
    unique = dict.fromkeys(out.items)
    return sorted(unique, key=lambda item: (ORDER.index(item.verdict), item.rule, item.file, item.line))


def facts_of(record: Record) -> dict[str, float | int | str | None]:
    """The main figures of a folder, for the summary table."""
    finals = statistics.final_scores(record)
    claimed = record.metadata.number("val_bpb") if record.metadata else None
    label = claims.claimed_pass(record)
    totals = [int(log.total.value) for log in record.logs if log.total]
    trains = [log.stop.value for log in record.logs if log.stop]
    evals = [found[0] for log in record.logs if (found := clock.eval_readings(log, label))]
    return {
        "claimed_bpb": None if claimed is None else float(claimed),
        "logged_mean_bpb": round(fmean(finals), 8) if finals else None,
        "seeds": len(record.logs),
        "largest_bytes": max(totals, default=None),
        "longest_train_s": max(trains, default=None),
        "longest_eval_s": round(max(evals), 3) if evals else None,
    }
