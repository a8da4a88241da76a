"""``harness verify``: is every record what it says it is?"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import click
import msgspec
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.cli import AGAINST, JSON, OUT_FILE, PATH, epilog, say, with_options
from harness.cli.result import fitted_text
from harness.config.variables import records_to_read
from harness.errors import UsageError
from harness.files import write_atomic
from harness.progress import make_reporter
from harness.record import witness
from harness.record.store import gathered
from harness.record.verification import VerifyReport, verify_paths
from harness.rules import Verdict, exit_code_of, title_of, worst
from harness.stats.seeds import counted_pools, describe_against, describe_pools
from harness.text import printable


@click.command(epilog=epilog("verify"))
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--root", default="", metavar="KEY", help="The key that the signed list of keys must go back to.")
@click.option("--history", is_flag=True, help="Also judge its git history: what was removed or taken back.")
@click.option("--tsa", type=PATH, metavar="PEM",
              help="Certificates of timestamp authorities: judge timestamps/ (RFC 3161) by them.")  # fmt: skip
@click.option("--intents", type=OUT_FILE, metavar="FILE",
              help="Append-only list of announced runs to publish: add new ones, name those gone.")  # fmt: skip
@click.option("--integrity-only", is_flag=True, help="Judge the records alone, not what they say against their runs.")
@click.option("--junit", type=OUT_FILE, help="Write the findings as JUnit XML here.")
@with_options(*AGAINST)
@click.option("--track", envvar="TRACK", metavar="NAME", help="Of --baseline: only this track. [env: TRACK]")
@click.option("--artifact", type=PATH, metavar="DIR", help="Also model.bin and code.bundle, in DIR or with the record.")
@click.option("--rescore", is_flag=True, help="Score a random part again, audit it, and compare.")
@JSON
def command(
    paths: tuple[Path, ...],
    trust: Path | None,
    root: str,
    history: bool,
    tsa: Path | None,
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
    reports = []
    for report in verify_paths(paths or records_to_read(), trust=trust, root=root, judge_runs=not integrity_only):
        gone = witness.check_history(report.records_dir) if history else ()
        stamps = witness.check_stamps(report, tsa) if tsa else ()
        reports.append(replace(report, folder=(*report.folder, *gone, *stamps)))
    if intents is not None:
        reports[0] = replace(reports[0], folder=(*reports[0].folder, *witness.extend_log(reports, intents)))
    if artifact is not None or rescore:
        reports = [_with_artifact(reports, artifact, rescore=rescore, silent=as_json)]
    if junit is not None:
        write_atomic(junit.absolute(), _junit(reports), replace=True)
    comparison: list[str] = []
    if baseline is not None:
        comparison = describe_against(reports, verify_paths([baseline], trust=trust)[0], track=track, margin=margin)
    text = "\n".join(["\n\n".join(map(_table, reports)), *([""] if comparison else []), *comparison])
    say({"folders": [_document(one) for one in reports], "comparison": comparison}, text, as_json=as_json)
    return exit_code_of([finding for report in reports for finding in report.findings])


def _junit(reports: list[VerifyReport]) -> bytes:
    """A suite for each file, a test case for each finding; WARN passes with its text."""
    suites = {printable(entry.name): entry.findings for report in reports for entry in report.asked}
    results = {Verdict.FAIL: Failure, Verdict.ERROR: Error, Verdict.UNKNOWN: Skipped}
    xml = JUnitXml("harness verify")
    for name, findings in (suites | {"folder": [found for report in reports for found in report.folder]}).items():
        suite = TestSuite(name)
        for found in findings:
            case = TestCase(printable(f"{found.rule} {title_of(found.rule)}"), classname=name)
            text = printable(found.message, 1000)
            if found.verdict in results:
                case.result = [results[found.verdict](text, found.rule)]
            elif found.verdict is Verdict.WARN:
                case.system_out = f"WARN {text}"
            suite.add_testcase(case)
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(xml.tostring())  # type: ignore[no-untyped-call]


def _with_artifact(reports: list[VerifyReport], artifact: Path | None, *, rescore: bool, silent: bool) -> VerifyReport:
    from harness.run.artifact import check_artifact_files

    chosen = [(report, entry) for report in reports for entry in report.asked if entry.record]
    if len(chosen) != 1:
        words = f"--artifact and --rescore belong to one record; {len(chosen)} are given."
        raise UsageError(words, remedy="Name that record's file.")
    ((report, entry),) = chosen
    assert entry.record is not None
    with gathered(entry.record, report.records_dir, artifact) as folder:
        found = check_artifact_files(entry.record, folder)
        if rescore and entry.verdict is not Verdict.FAIL and worst(found) is Verdict.PASS:
            from harness.run.rescore import rescore as score_again

            found += score_again(entry.record, folder, os.environ, make_reporter(silent=silent))
    placed = (msgspec.structs.replace(finding, where=entry.name) for finding in found)
    return replace(report, asked=(replace(entry, findings=(*entry.findings, *placed)),))


def _table(report: VerifyReport) -> str:
    """Every run record, everything that did not pass, statistics of a whole folder, and one closing sentence."""
    notes = [f for f in report.findings if f.verdict != "PASS" or f.rule == "R6-REPRODUCED" or f in report.folder]
    whole = len(report.records) == sum(entry.name.startswith("runs/") for entry in report.entries)
    pools = [line for pool in counted_pools(report)[0] for line in describe_pools(pool)] if whole else []
    found = Counter(entry.verdict.value for entry in report.asked)
    counts = {verdict.value: found[verdict.value] for verdict in Verdict if found[verdict.value]}
    return fitted_text("verify.txt.jinja", report=report, notes=notes, pools=pools, counts=counts)


def _document(report: VerifyReport) -> dict[str, object]:
    return {
        "records_dir": str(report.records_dir),
        "verdict": report.verdict.value,
        "exit_code": int(exit_code_of(report.findings)),
        "files": [
            {
                "file": entry.name,
                "digest": entry.entry.digest if entry.entry else None,
                "verdict": entry.verdict.value,
                "findings": entry.findings,
            }
            for entry in report.asked
        ],
        "keys": report.accepted.source,
        "folder_findings": report.folder,
    }
