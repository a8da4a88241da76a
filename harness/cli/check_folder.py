"""``harness check folder``: public record folders, judged as data."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from harness.cli import FILE, FOLDER, OUT_FILE, PATH, epilog
from harness.errors import UsageError
from harness.review import output
from harness.review.changes import change_of, judge_change
from harness.review.findings import FolderReport, Readings, blocking_rules, exit_code_of, with_settings
from harness.review.folder import check_folders

MANY = 6
"""Beyond so many folders a terminal gets a bar."""


@click.command(epilog=epilog("folder"))
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print all as JSON (schema: harness/review/report.schema.json).")
@click.option("--sarif", type=OUT_FILE, help="Write SARIF 2.1.0 here.")
@click.option("--annotations", is_flag=True, help="Print GitHub workflow annotations instead of text.")
@click.option("--baseline", type=FILE, help="Show and judge only what this earlier --json output lacks.")
@click.option("--against", type=FOLDER, help="The record folder that is to be beaten.")
@click.option("--reading", "settings", multiple=True, metavar="NAME=VALUE", help="Reading of a rule; help lists them.")
@click.option("--changed-from", metavar="REVISION", help="Check the record folders that HEAD adds to this revision.")
@click.option("--staged", "is_staged", is_flag=True, help="Check the record folders with staged changes.")
@click.option("--block", metavar="RULE,…",
              help='Rules, or beginnings such as A3, whose FAIL makes the exit code 1; "all" or "none". Default: those '
                   "that were right in at least 95 % of judged cases (harness/docs/reviewing.md).")  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Show PASS and UNKNOWN as well.")
def command(
    paths: tuple[Path, ...],
    as_json: bool,
    sarif: Path | None,
    annotations: bool,
    baseline: Path | None,
    against: Path | None,
    settings: tuple[str, ...],
    changed_from: str | None,
    is_staged: bool,
    block: str | None,
    show_all: bool,
) -> int:
    """Check the public record folders PATHS."""
    if "help" in settings:
        click.echo(Readings.__doc__)
        return 0
    if bool(paths) + bool(changed_from) + is_staged != 1:
        text = "give PATHS, or --changed-from REVISION, or --staged."
        raise UsageError(text, remedy="See harness check folder --help.")
    change = None
    if changed_from or is_staged:
        change = change_of(Path(), changed_from)
        paths = change.folders
        if not (paths or change.others or change.altered) and not as_json:
            click.echo("nothing is in the change.", err=True)
    else:
        paths = tuple(output.record_folders(paths))
    readings, blocking = with_settings(settings), blocking_rules(block)
    known = output.read_baseline(baseline) if baseline else None
    reports = with_progress(check_folders(paths, readings, against), len(paths))
    if change is not None and changed_from:
        reports = judge_change(reports, change)
    if known is not None:
        reports = [output.only_new(report, known) for report in reports]
    if sarif is not None:
        output.write_sarif(reports, sarif)
    if as_json:
        click.echo(output.as_json(reports, readings))
    elif annotations:
        click.echo(output.as_annotations(reports))
    else:
        click.echo(output.as_text(reports, show_all=show_all))
    return exit_code_of(reports, blocking)


def with_progress(reports: Iterator[FolderReport], total: int) -> list[FolderReport]:
    """All reports. A terminal sees how far it is; pipes and few folders see nothing, and import nothing for it."""
    if total <= MANY or not sys.stderr.isatty():
        return list(reports)
    from harness.progress import make_reporter

    done: list[FolderReport] = []
    with make_reporter().stage("check folders", total, "folders") as stage:
        for report in reports:
            done.append(report)
            stage.update(len(done), f"{len(done)} of {total}: {Path(report.folder).name}")
    return done
