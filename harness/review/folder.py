"""Check folders: load each, run every check, put the findings in order; many folders on several processes."""

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev

from harness.errors import HarnessError
from harness.review import code, evidence, formal, limits, score, statistics
from harness.review.findings import FolderReport, Readings
from harness.review.record import Check, Record, load_record
from harness.review.source import FOLDER_SECONDS
from harness.rules import Verdict

CHECKS: tuple[Check, ...] = (
    *(formal.hardware, limits.train_clock, limits.calibration, limits.eval_clock, limits.eval_table, limits.artifact),
    *(limits.code_bytes, limits.claimed_bytes, score.last_pass, evidence.byte_count, evidence.by_name),
    *(evidence.coverage, evidence.gain, evidence.scored_alike),
    *(evidence.marks, evidence.plausible, score.margin, evidence.words),
    *(score.selected, score.claim, score.figures, score.model, score.headline),
    *(formal.required_files, formal.fields, formal.track, formal.logs_whole, formal.same_config),
    *(formal.seed_set, statistics.stated, statistics.deviations, statistics.tests),
    *(code.absent, code.patterns, code.preparation, code.uncounted),
)
GARBAGE = 50_000
"""Objects that a worker makes between two looks for cycles: syntax trees hold none, and a third of their time goes."""


def check_folder(path: Path, readings: Readings | None = None, against: Path | None = None) -> FolderReport:
    """Check one folder, optionally against the record folder that it claims to beat.

    Raises ``UsageError`` when ``path`` is not a folder. Whatever the folder holds, the result is a report.
    """
    return judge(load_record(path, readings or Readings()), str(path), against)


def judge(record: Record, name: str, against: Path | None = None) -> FolderReport:
    """Run every check on a record that is read. What one can't digest is an ERROR of this folder alone."""
    names = [check.__name__.replace("_", " ") for check in CHECKS]
    for i, check in enumerate(CHECKS):
        try:
            check(record)
        except HarnessError:
            raise
        except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
            message = f"the check of {names[i]} broke off: {type(error).__name__}: {str(error)[:120]}."
            record.out.add(Verdict.ERROR, "A9-READABLE", message, remedy="Please report this with the folder.")
        if record.folder.late():
            left = ", ".join(names[i + 1 :]) or "nothing left out"
            message = f"not wholly checked within {FOLDER_SECONDS:g} s: {left}."
            remedy = "Ship files of the usual size; with the machine busy, check again."
            record.out.add(Verdict.ERROR, "A9-READABLE", message, remedy=remedy)
            break
    if against is not None:
        statistics.check_against(record, against)
    return FolderReport(name, record.track, record.out.merged(), *facts_of(record))


def check_folders(paths: Sequence[Path], readings: Readings, against: Path | None = None) -> Iterator[FolderReport]:
    """Check several folders, in the order given, on as many processes as there are cores."""
    if len(paths) <= 6:  # to start other processes would take longer
        yield from (check_folder(path, readings, against) for path in paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    workers = min(len(os.sched_getaffinity(0)), 8)
    with ProcessPoolExecutor(workers, initializer=gc.set_threshold, initargs=(GARBAGE,)) as pool:
        yield from pool.map(partial(check_folder, readings=readings, against=against), paths, chunksize=2)


def facts_of(record: Record) -> tuple[dict[str, float | int | str | None], dict[str, str]]:
    """The main figures of a folder, for the summary table; and the claimed ones as they are written."""
    bound, meta = record.bound, record.metadata
    finals = statistics.final_scores(record)
    evals = [found[0] for run in bound.runs if (found := limits.eval_readings(run, bound.name))]
    claimed = meta.number("val_bpb")
    written = {name: number.text for name in ("val_bpb", "bytes_total") if (number := meta.number(name))}
    facts: dict[str, float | int | str | None] = {
        "claimed_bpb": None if claimed is None else claimed.value,
        "logged_mean_bpb": round(fmean(finals), 8) if finals else None,
        "logged_std_bpb": round(stdev(finals), 8) if len(finals) > 1 else None,
        "seeds": len(bound.runs),
        "largest_bytes": max((int(run.total.value) for run in bound.sized if run.total), default=None),
        "longest_train_s": max((run.train_time.value for run in bound.training if run.train_time), default=None),
        "longest_eval_s": round(max(evals), 3) if evals else None,
    }
    return facts, written
