"""A verification as a table, as JSON and as JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tabulate import tabulate

from harness.files import write_atomic
from harness.record.verification import EntryReport, VerifyReport, exit_code_of, worst
from harness.rules import Finding, Verdict, catalogue
from harness.rules.junit import Case, junit_xml
from harness.text import printable

Reports = Sequence[tuple[VerifyReport, tuple[EntryReport, ...]]]


def render_text(reports: Reports) -> str:
    """One table a folder: every run record, everything that did not pass, and one closing sentence."""
    return "\n\n".join(_folder_text(report, chosen) for report, chosen in reports)


def _folder_text(report: VerifyReport, chosen: tuple[EntryReport, ...]) -> str:
    records = [entry for entry in chosen if entry.name.startswith("runs/")]
    parts = [tabulate([_row(entry) for entry in records], headers=_HEADERS, disable_numparse=True)] if records else []
    notes = [
        _note(finding)
        for finding in report.findings_of(chosen)
        if finding.verdict is not Verdict.PASS or finding.rule == "R6-REPRODUCED"
    ]
    if notes:
        parts.append("\n".join(notes))
    parts += _statistics(report) if len(records) == len(report.records) else []
    parts.append(_summary(report, chosen, len(records)))
    return "\n\n".join(parts)


_HEADERS = ("record", "signer", "track", "seed", "bpb", "bytes", "verdict")


def _row(entry: EntryReport) -> tuple[str, ...]:
    record = entry.record
    if record is None or entry.entry is None:
        return (printable(entry.name), "", "", "", "", "", entry.verdict.value)
    final = record.final
    return (
        printable(entry.name),
        printable(entry.entry.signer[:12]),
        printable(record.track.name),
        str(record.submission.seed),
        f"{final.bpb:.4f}" if final else "",
        f"{record.sizes.total_bytes:,}",
        entry.verdict.value,
    )


def _note(finding: Finding) -> str:
    text = f"{finding.rule} {finding.verdict.value}: {finding.where}: {finding.message.rstrip('.')}."
    if finding.verdict is Verdict.FAIL and finding.remedy:
        text += f" {finding.remedy}"
    return printable(text, 1000)


def _summary(report: VerifyReport, chosen: tuple[EntryReport, ...], records: int) -> str:
    counts = Counter(entry.verdict for entry in chosen)
    verdict = worst(report.findings_of(chosen))
    words = {
        Verdict.PASS: "good",
        Verdict.WARN: "good, with warnings",
        Verdict.FAIL: "FAILED",
        Verdict.ERROR: "NOT CHECKED",
    }
    tally = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
    return (
        f"{records} record(s) among {len(chosen)} signed file(s) in {report.records_dir}: {words[verdict]} ({tally}). "
        f"Keys by {report.accepted.source}."
    )


def _statistics(report: VerifyReport) -> list[str]:
    from harness.stats import counted_pools, describe_pools

    found, _ = counted_pools(report, report.records)
    return [line for pool in found for line in describe_pools(pool)]


def render_json(reports: Reports, comparison: Sequence[str] = ()) -> str:
    """The same as one JSON document: verdict, exit code, every file, every finding; ``comparison`` as lines."""
    folders = [
        {
            "records_dir": str(report.records_dir),
            "verdict": worst(report.findings_of(chosen)).value,
            "exit_code": int(exit_code_of(report.findings_of(chosen))),
            "files": [
                {
                    "file": entry.name,
                    "digest": entry.entry.digest if entry.entry else None,
                    "verdict": entry.verdict.value,
                    "findings": msgspec.to_builtins(entry.findings),
                }
                for entry in chosen
            ],
            "keys": report.accepted.source,
            "folder_findings": msgspec.to_builtins(report.folder),
        }
        for report, chosen in reports
    ]
    return json.dumps({"folders": folders, "comparison": list(comparison)}, indent=2)


def write_junit(reports: Reports, path: Path) -> None:
    """JUnit XML: a suite for each file, a test case for each finding on it."""
    suites = {printable(e.name): [_case(f) for f in e.findings] for _, chosen in reports for e in chosen}
    folder = [_case(finding) for report, _ in reports for finding in report.folder]
    write_atomic(path.absolute(), junit_xml("harness verify", suites | {"folder": folder}), replace=True)


def _case(finding: Finding) -> Case:
    title = catalogue()[finding.rule].title if finding.rule in catalogue() else "not a rule of this version"
    return Case(printable(f"{finding.rule} {title}"), finding.verdict, finding.rule, printable(finding.message, 1000))
