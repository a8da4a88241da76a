"""From paths to a report: every record is verified as it is read, and its verdict goes into the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.record.store import StoredRecord
from harness.record.verification import verify_folder, verify_paths
from harness.report.figures import FolderClaim, Report, ReportedRun, pool_runs
from harness.rules import Finding, Verdict
from harness.stats import describe_against


def collect(
    paths: Sequence[Path],
    *,
    trust: Path | None = None,
    baseline: Path | None = None,
    margin: str | None = None,
    claims: Sequence[FolderClaim] = (),
) -> Report:
    """Records in ``paths`` (records folders, or single files under ``runs/`` of one), grouped by what they ran.

    trust: folder of accepted keys, for the baseline too
    baseline, margin: also compare the records with this folder's, a track at a time; it has a default margin
    claims: public folders, which stand beside them
    A file that is not a readable record is named and left out. Raises ``CouldNotCheck`` when nothing is left.
    """
    runs: list[ReportedRun] = []
    folder: list[Finding] = []
    reports, seen = verify_paths(paths, trust=trust), set[str]()
    for report, entries in reports:
        folder += report.folder
        for entry in (entry for entry in entries if entry.name.startswith("runs/")):
            if entry.entry is None or entry.record is None:
                folder += [finding for finding in entry.findings if finding.verdict is not Verdict.PASS]
                continue
            if entry.entry.digest in seen:  # a copy, such as an exported folder holds
                continue
            seen.add(entry.entry.digest)
            own = tuple(finding for finding in entry.record.findings if finding.verdict is Verdict.PASS)
            stored = StoredRecord(entry.path, entry.entry.digest, entry.record, entry.entry.signer)
            runs.append(ReportedRun(stored, entry.verdict, (*entry.findings, *own), report.owner_of(entry)))
    if not runs and not claims:
        raise CouldNotCheck(
            f"no record in {', '.join(str(path) for path in paths)}.",
            remedy="`make submit SEED=1337` makes one; or name a folder that holds runs/.",
        )
    compared: list[str] = []
    if baseline:
        compared = describe_against(reports, verify_folder(baseline, trust=trust), margin=margin)
    return Report(pool_runs(runs), tuple(folder), tuple(compared), tuple(claims))
