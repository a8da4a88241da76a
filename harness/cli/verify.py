"""``harness verify``: is every record what it says it is?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from harness.errors import CouldNotCheck, ExitCode, RuleBroken, UsageError
from harness.rules import Verdict

if TYPE_CHECKING:
    from harness.record.predicate import RunRecord
    from harness.record.verify import EntryReport, VerifyReport
    from harness.rules import Finding

EPILOG = """\b
Checks, in this order: envelope and schema (R2), signature (R1), chain (R3), intents (R5), arithmetic (R4),
caps and clocks of the run itself (A1 to A3), statistics over seeds.

\b
Examples:
  harness verify                         every record in records/, and your own in .golf/records
  harness verify records/runs/X.json     one record, with the chain around it
  harness verify --junit verify.xml      for CI
  harness verify records/runs/X.json --artifact DIR      with the artifact at hand

Exit codes: 0 good (warnings included), 1 a record fails, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Folder of accepted public keys, instead of records/keys; for the baseline too.",
)
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
    "--margin",
    envvar="MARGIN",
    help='By how much: "0.005 nats/token" (the default on official tracks; else none), "… nats/byte", "… bpb".',
)
@click.option(
    "--artifact",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Level 2: also check model.bin and code.bundle in DIR against the one record given.",
)
@click.option("--rescore", is_flag=True, help="With --artifact: score a random part again and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    paths: tuple[Path, ...],
    trust: Path | None,
    integrity_only: bool,
    junit: Path | None,
    baseline: Path | None,
    margin: str | None,
    artifact: Path | None,
    rescore: bool,
    as_json: bool,
) -> int:
    """Verify signed records: all of records/ and of your own, or the folders and files PATHS."""
    from harness.config.environment import records_to_read
    from harness.record.render import NOTHING_YET, render_json, render_text, write_junit
    from harness.record.verify import exit_code_of, verify_folder

    if rescore and artifact is None:
        raise UsageError("--rescore needs the artifact.", remedy="Add --artifact DIR.")
    given = paths or records_to_read()
    if not paths and not given[0].exists():
        click.echo(NOTHING_YET.format(given[0]))
        return ExitCode.GOOD
    reports: list[tuple[VerifyReport, tuple[EntryReport, ...]]] = []
    for root, files in _by_folder(given).items():
        report = verify_folder(root, trust=trust, judge_runs=not integrity_only)
        reports.append((report, _selected(report, files)))
    if artifact is not None:
        reports = [_with_artifact(reports, artifact, rescore=rescore, silent=as_json)]
    if junit is not None:
        write_junit(reports, junit)
    comparison = _compared(reports, baseline, trust, margin) if baseline is not None else []
    if as_json:
        click.echo(render_json(reports, comparison))
    else:
        click.echo("\n".join([render_text(reports), *([""] if comparison else []), *comparison]))
    return max(
        (exit_code_of(report.findings_of(chosen)) for report, chosen in reports), key=_gravity, default=ExitCode.GOOD
    )


def _compared(
    reports: list[tuple[VerifyReport, tuple[EntryReport, ...]]], baseline: Path, trust: Path | None, margin: str | None
) -> list[str]:
    from harness.record import verify_folder
    from harness.stats import describe_comparison, parse_margin

    old = verify_folder(baseline, trust=trust)
    sides = ([e for _, chosen in reports for e in chosen if e.record], [e for e in old.records if e.record])
    for entry in (*sides[0], *sides[1]):
        if entry.verdict is Verdict.FAIL:
            raise RuleBroken(
                "R4-ARITHMETIC",
                f"{entry.path} fails, so it has no place in a comparison.",
                remedy="`harness verify` on that file says why; leave it out.",
            )
    candidate, before = ([entry.record for entry in side if entry.record] for side in sides)
    return describe_comparison(candidate, before, None if margin is None else parse_margin(margin))


def _with_artifact(
    reports: list[tuple[VerifyReport, tuple[EntryReport, ...]]], artifact: Path, *, rescore: bool, silent: bool
) -> tuple[VerifyReport, tuple[EntryReport, ...]]:
    from harness.record.artifact import check_artifact_files
    from harness.record.verify import worst

    chosen = [entry for _, entries in reports for entry in entries if entry.record]
    if len(chosen) != 1 or chosen[0].record is None:
        raise UsageError(
            f"--artifact belongs to one record; {len(chosen)} are given.", remedy="Name that record's file."
        )
    found = check_artifact_files(chosen[0].record, artifact)
    if rescore and chosen[0].verdict is not Verdict.FAIL and worst(found) is Verdict.PASS:
        found.append(_rescored(chosen[0].record, artifact, silent=silent))
    placed = (msgspec.structs.replace(finding, where=chosen[0].name) for finding in found)
    return reports[0][0], (replace(chosen[0], findings=(*chosen[0].findings, *placed)),)


def _rescored(record: RunRecord, artifact: Path, *, silent: bool) -> Finding:
    from harness.cli.progress import make_reporter
    from harness.phases.rescore import rescore

    return rescore(record, artifact, os.environ, make_reporter(silent=silent))


def _gravity(code: ExitCode) -> int:
    return (ExitCode.GOOD, ExitCode.COULD_NOT_CHECK, ExitCode.RULE_BROKEN).index(code)


def _by_folder(paths: tuple[Path, ...]) -> dict[Path, set[Path] | None]:
    """Records folder -> the files asked for in it; ``None`` for all of them."""
    folders: dict[Path, set[Path] | None] = {}
    for path in paths:
        if path.is_dir():
            folders[path] = None
            continue
        root = path.absolute().parent.parent
        if not path.is_file() or not (root / "keys").is_dir():
            raise CouldNotCheck(
                f"{path} is not a record in a records folder (keys/ beside runs/).",
                remedy="Put it into one, or name a file that exists: its keys and its chain are judged with it.",
            )
        chosen = folders.setdefault(root, set())
        if chosen is not None:
            chosen.add(path.absolute())
    return folders


def _selected(report: VerifyReport, files: set[Path] | None) -> tuple[EntryReport, ...]:
    if files is None:
        return report.entries
    chosen = tuple(entry for entry in report.entries if entry.path.absolute() in files)
    if len(chosen) != len(files):
        names = ", ".join(sorted(str(path) for path in files - {entry.path.absolute() for entry in chosen}))
        raise CouldNotCheck(
            f"{names}: not under runs/, intents/, reviews/ or heads/ of its records folder.",
            remedy="Put it there; keys and chain are judged with it.",
        )
    return chosen
