"""``harness verify``: is every record what it says it is?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from harness.errors import ExitCode, UsageError
from harness.rules import Verdict

if TYPE_CHECKING:
    from harness.record.predicate import RunRecord
    from harness.record.verification import EntryReport, VerifyReport
    from harness.rules import Finding

EPILOG = """\b
Checks, in this order: envelope and schema (R2), signature (R1), arithmetic, names and terms (R4), completeness (R7),
caps and clocks of the run itself (A1 to A3), chain (R3), intents (R5), reviews (R6), statistics over seeds.

\b
Examples:
  harness verify                         every record in records/, and your own in .golf/records
  harness verify records/runs/X.json     one record, with the chain around it
  harness verify --junit verify.xml      for CI
  harness verify records/runs/X.json --artifact DIR      with the artifact at hand
  harness verify records/runs/X.json --rescore           score a part again; the artifact may lie with the records

Exit codes: 0 good (warnings included), 1 a record fails, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Folder of accepted public keys, instead of records/keys; for the baseline too.",
)
@click.option("--root", default="", metavar="KEY", help="The key that the signed list of keys must go back to.")
@click.option("--history", is_flag=True, help="Also judge its git history: what was taken back, signed commits.")
@click.option("--tsa", type=click.Path(path_type=Path), metavar="PEM",
              help="Certificates of timestamp authorities: judge timestamps/ (RFC 3161) by them.")  # fmt: skip
@click.option("--stamp", is_flag=True, help="Write an RFC 3161 request for the one file given, and say how to send it.")
@click.option("--intents", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Append-only list of announced runs to publish: add new ones, name those gone.")  # fmt: skip
@click.option("--integrity-only", is_flag=True, help="Judge the records alone, not what they say against their runs.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the findings as JUnit XML here.")
@click.option(
    "--baseline",
    envvar="BASELINE",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Also test the records (one pool of seeds) against this records folder. [env: BASELINE]",
)
@click.option(
    "--track", envvar="TRACK", metavar="NAME", help="With --baseline: only records of this track. [env: TRACK]"
)
@click.option(
    "--margin",
    envvar="MARGIN",
    help='By how much: "0.005 nats/token" (the default on official tracks; else none), "… nats/byte", "… bpb".',
)
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Level 2: also check model.bin and code.bundle in DIR, or in records/artifacts, against the one record given.",
)
@click.option("--rescore", is_flag=True, help="Score a random part again, audit it, and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    paths: tuple[Path, ...],
    trust: Path | None,
    root: str,
    history: bool,
    tsa: Path | None,
    stamp: bool,
    intents: Path | None,
    integrity_only: bool,
    junit: Path | None,
    baseline: Path | None,
    track: str | None,
    margin: str | None,
    artifact: Path | None,
    rescore: bool,
    as_json: bool,
) -> int:
    """Verify signed records: all of records/ and of your own, or the folders and files PATHS."""
    from harness.cli.verify_text import render_json, render_text, write_junit
    from harness.config.variables import records_to_read
    from harness.record.verification import exit_code_of, verify_folder, verify_paths

    found = verify_paths(paths or records_to_read(), trust=trust, root=root, judge_runs=not integrity_only)
    reports = [(_witnessed(report, history=history, tsa=tsa), chosen) for report, chosen in found]
    if stamp:
        return _request(reports)
    if intents is not None:
        from harness.record.witness import extend_log

        (first, chosen), *others = reports
        gone = tuple(extend_log([report for report, _ in reports], intents))
        reports = [(replace(first, folder=(*first.folder, *gone)), chosen), *others]
    if artifact is not None or rescore:
        reports = [_with_artifact(reports, artifact, rescore=rescore, silent=as_json)]
    if junit is not None:
        write_junit(reports, junit)
    comparison: list[str] = []
    if baseline is not None:
        from harness.stats import describe_against

        comparison = describe_against(reports, verify_folder(baseline, trust=trust), track=track, margin=margin)
    if as_json:
        click.echo(render_json(reports, comparison))
    else:
        click.echo("\n".join([render_text(reports), *([""] if comparison else []), *comparison]))
    return exit_code_of([finding for report, chosen in reports for finding in report.findings_of(chosen)])


def _witnessed(report: VerifyReport, *, history: bool, tsa: Path | None) -> VerifyReport:
    from harness.record.witness import check_history, check_stamps

    found = [
        *(check_history(report.records_dir, report.accepted) if history else ()),
        *(check_stamps(report, tsa) if tsa else ()),
    ]
    return replace(report, folder=(*report.folder, *found))


def _request(reports: list[tuple[VerifyReport, tuple[EntryReport, ...]]]) -> ExitCode:
    from harness.record.witness import request_stamp

    chosen = [(report, entry) for report, entries in reports for entry in entries]
    if len(chosen) != 1:
        raise UsageError(f"--stamp takes one file; {len(chosen)} are given.", remedy="Name a record or an intent.")
    request = request_stamp(chosen[0][0], chosen[0][1].path)
    answer = request.with_suffix(".tsr")
    click.echo(
        f"request: {request}\nsend it: curl -H 'Content-Type: application/timestamp-query' --data-binary @{request} "
        f"URL-OF-AN-AUTHORITY -o {answer}\nthen:    harness verify --tsa CERTIFICATES.pem"
    )
    return ExitCode.GOOD


def _with_artifact(
    reports: list[tuple[VerifyReport, tuple[EntryReport, ...]]], artifact: Path | None, *, rescore: bool, silent: bool
) -> tuple[VerifyReport, tuple[EntryReport, ...]]:
    from harness.record.store import gathered
    from harness.record.verification import worst
    from harness.run.rescore import check_artifact_files

    chosen = [(report, entry) for report, entries in reports for entry in entries if entry.record]
    if len(chosen) != 1:
        raise UsageError(
            f"--artifact and --rescore belong to one record; {len(chosen)} are given.",
            remedy="Name that record's file.",
        )
    (report, entry), found = chosen[0], []
    assert entry.record is not None
    with gathered(entry.record, report.records_dir, artifact) as folder:
        found = check_artifact_files(entry.record, folder)
        if rescore and entry.verdict is not Verdict.FAIL and worst(found) is Verdict.PASS:
            found += _rescored(entry.record, folder, silent=silent)
    placed = (msgspec.structs.replace(finding, where=entry.name) for finding in found)
    return report, (replace(entry, findings=(*entry.findings, *placed)),)


def _rescored(record: RunRecord, artifact: Path, *, silent: bool) -> list[Finding]:
    from harness.progress import make_reporter
    from harness.run.rescore import rescore

    return rescore(record, artifact, os.environ, make_reporter(silent=silent))
