"""From paths to a report: every record is verified as it is read, and its verdict goes into the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import CouldNotCheck, RuleBroken
from harness.record.store import StoredRecord
from harness.record.verify import EntryReport, verify_folder
from harness.report.figures import Report, Run, pool_runs
from harness.rules import Finding, Verdict
from harness.stats import describe_comparison, parse_margin


def collect(
    paths: Sequence[Path], *, trust: Path | None = None, baseline: Path | None = None, margin: str | None = None
) -> Report:
    """Records in ``paths`` (records folders, or single files under ``runs/`` of one), grouped by what they ran.

    trust: folder of accepted keys, for the baseline too
    baseline, margin: also compare the one pool that ``paths`` hold with this folder's; the track has a default margin
    Raises ``CouldNotCheck`` when nothing is found or a file is no record.
    """
    runs: list[Run] = []
    folder: list[Finding] = []
    for root, chosen in _folders(paths).items():
        report = verify_folder(root, trust=trust)
        folder += report.folder
        for entry in report.records:
            if chosen is None or entry.path.absolute() in chosen:
                runs.append(_run(entry))
    if not runs:
        raise CouldNotCheck(
            f"no record in {', '.join(str(path) for path in paths)}.",
            remedy="`make submit SEED=1337` makes one; or name a folder that holds runs/.",
        )
    return Report(pool_runs(runs), tuple(folder), tuple(_compared(runs, baseline, trust, margin)) if baseline else ())


def _run(entry: EntryReport) -> Run:
    if entry.entry is None or entry.record is None:
        reason = "; ".join(finding.message for finding in entry.findings if finding.verdict is not Verdict.PASS)
        raise CouldNotCheck(f"{entry.path} is no readable record: {reason}.", remedy="`harness verify` shows more.")
    stored = StoredRecord(entry.path, entry.entry.digest, entry.record, entry.entry.signer)
    own = tuple(finding for finding in entry.record.findings if finding.verdict is Verdict.PASS)
    return Run(stored, entry.verdict, (*entry.findings, *own))


def _folders(paths: Sequence[Path]) -> dict[Path, set[Path] | None]:
    folders: dict[Path, set[Path] | None] = {}
    for path in paths:
        if path.is_dir():
            folders[path] = None
            continue
        if not path.is_file():
            raise CouldNotCheck(f"{path} does not exist.", remedy="Give a records folder, or files in its runs/.")
        chosen = folders.setdefault(path.absolute().parent.parent, set())
        if chosen is not None:
            chosen.add(path.absolute())
    return folders


def _compared(runs: Sequence[Run], baseline: Path, trust: Path | None, margin: str | None) -> list[str]:
    before = collect([baseline], trust=trust).runs
    for run in (*runs, *before):
        if run.verdict is Verdict.FAIL:
            raise RuleBroken(
                "R4-ARITHMETIC",
                f"{run.stored.path} fails, so it has no place in a comparison.",
                remedy="`harness verify` on that file says why; leave it out.",
            )
    chosen = None if margin is None else parse_margin(margin)
    return describe_comparison([run.record for run in runs], [run.record for run in before], chosen)
