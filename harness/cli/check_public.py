"""``harness check folder``, ``pulls``, ``claims`` and ``bytes``: what others made public, judged as data."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from harness import rules
from harness.cli import FILE, FOLDER, JSON, OUT_FILE, OUT_FOLDER, PATH, epilog, say
from harness.errors import CouldNotCheck, ExitCode, UsageError
from harness.files import read_regular, write_atomic
from harness.git import git
from harness.review import output
from harness.review.changes import change_of, judge_change
from harness.review.claims import check_text, claims_json, render_claims
from harness.review.findings import FolderReport, Readings, blocking_rules, exit_code_of, with_settings
from harness.review.folder import check_folders
from harness.text import printable

MANY = 6  # beyond so many folders a terminal gets a bar
MAX_TEXT_BYTES = 2_000_000


@click.command("folder", epilog=epilog("folder"))
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
def folder_command(
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


@click.command("pulls", epilog=epilog("pulls"))
@click.argument("repository", type=FOLDER)
@click.option("--base", default="HEAD", show_default=True, metavar="REVISION", help="The branch that they go to.")
@click.option("--out", type=OUT_FOLDER, default="pulls-report", show_default=True)
@click.option("--jobs", type=click.IntRange(1, 64), help="Processes (default: one a core, at most 8).")
@click.option("--only", metavar="N or N-M", help="Only these pull requests.")
@click.option("--reading", "settings", multiple=True, metavar="NAME=VALUE", help="As in harness check folder.")
@click.option("--quiet", is_flag=True, help="No progress.")
def pulls_command(
    repository: Path, base: str, out: Path, jobs: int | None, only: str | None, settings: tuple[str, ...], quiet: bool
) -> int:
    """Judge every record folder that the pull requests of the clone REPOSITORY add."""
    from harness.progress import make_reporter
    from harness.review import board, pulls

    readings, first, last = with_settings(settings), 0, 10**9
    if only is not None:
        ends = only.split("-")
        if len(ends) > 2 or not all(end.isdigit() for end in ends):
            raise UsageError(f"--only {only}: not N or N-M.", remedy="Give numbers such as 1500-1600.")
        first, last = int(ends[0]), int(ends[-1])
    if repository.resolve() in (out.resolve(), *out.resolve().parents):
        text = f"{out} lies in the clone, where a stranger may have left results under that name."
        raise UsageError(text, remedy="Name a folder outside the clone: --out.")
    git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    chosen = [pull for pull in pulls.list_pulls(repository) if first <= pull.number <= last]
    out.mkdir(parents=True, exist_ok=True)
    lines = out / "folders.jsonl"
    known, reporter = pulls.read_judged(lines), make_reporter(silent=quiet)
    added: list[pulls.Added] = []
    with reporter.stage("find folders", len(chosen), "pull requests") as stage:
        for done, (pull, found) in enumerate(pulls.list_added(repository, base, chosen), 1):
            added += found
            stage.update(done, f"{done} of {len(chosen)}: #{pull.number}")
    judged: list[pulls.Judged] = []
    workers = jobs or min(len(os.sched_getaffinity(0)), 8)
    with reporter.stage("judge folders", len(added), "folders") as stage, lines.open("ab") as stream:
        for item in pulls.judge_all(repository, added, readings, known, workers):
            judged.append(item)
            if item.key not in known:
                stream.write(item.line())
                stream.flush()
            stage.update(len(judged), f"{len(judged)} of {len(added)}: #{item.added.pull.number}")
    judged = [item for _, item in sorted({(item.added.pull.number, item.added.path): item for item in judged}.items())]
    write_atomic(lines.absolute(), b"".join(item.line() for item in judged), replace=True, mode=None)
    board.write_board(judged, f"{len(chosen)} pull requests, {len(judged)} record folders", out)
    click.echo(f"{len(chosen)} pull requests, {len(judged)} record folders: {out}/board.html, board.csv, folders.jsonl")
    return ExitCode.GOOD


@click.command("claims", epilog=epilog("claims"))
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--problems", is_flag=True, help="Show only what is wrong or disputed.")
@click.option("--json", "as_json", is_flag=True, help="Print every claim as JSON.")
def claims_command(files: tuple[Path, ...], problems: bool, as_json: bool) -> int:
    """Recompute the numbers that texts claim (FILES: Markdown or plain text)."""
    found = {path: check_text(_read(path)) for path in files}
    if as_json:
        click.echo(claims_json({str(path): claims for path, claims in found.items()}))
    else:
        blocks = [render_claims(str(path), claims, every=not problems) for path, claims in found.items()]
        click.echo("\n\n".join(blocks))
    wrong = any(claim.verdict is rules.Verdict.FAIL for claims in found.values() for claim in claims)
    return ExitCode.RULE_BROKEN if wrong else ExitCode.GOOD


def _read(path: Path) -> str:
    data = read_regular(path, MAX_TEXT_BYTES, links=True)
    if len(data) > MAX_TEXT_BYTES:
        text = f"{path} is larger than {MAX_TEXT_BYTES:,} bytes; no README is."
        raise CouldNotCheck(text, remedy="Give a Markdown or text file.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CouldNotCheck(f"{path} is not UTF-8 text (byte {error.start:,}).", remedy="Convert it first.") from error


@click.command("bytes", epilog=epilog("bytes"))
@click.argument("folder", required=False, type=FOLDER)
@click.option("--tokenizer", "tokenizer_file", metavar="FILE",
              help="Tokenizer of the shards (a built data set knows its own).")  # fmt: skip
@click.option("--docs", "documents", multiple=True, type=PATH, help="Raw documents, in shard order.")
@click.option("--val-docs", "val_documents", type=int,
              help="How many of them are validation (default: as many as the shards hold).")  # fmt: skip
@click.option("--field", default="text", show_default=True, help="Key of the text in a JSON line.")
@click.option("--val-loss", metavar="NATS", help="Claimed loss, nats a token, with all its printed digits.")
@click.option("--val-bpb", metavar="BPB", help="Claimed bits per byte.")
@click.option("--val-tokens", "claimed_targets", type=int, help="Claimed number of scored tokens.")
@click.option("--claimed-bytes", type=int, help="Claimed number of bytes, instead of loss and bpb.")
@click.option("--window", default=0, show_default=True, help="Sequence length whose last incomplete window is dropped.")
@click.option("--manifest", type=PATH, help="Published manifest.json to compare counts with.")
@click.option("--near", is_flag=True, help="Look for near-duplicates between train and validation too (slow).")
@JSON
def bytes_command(folder: Path | None, val_loss: str | None, val_bpb: str | None, as_json: bool, **plan: Any) -> int:
    """Audit the byte count of the shard FOLDER, of a claim, or of both together."""
    from harness.cli.result import fitted_table
    from harness.data.byte_check import ByteReport, check_bytes
    from harness.progress import make_reporter
    from harness.review.number import Number
    from harness.review.published import implied_bytes, judge_claim

    val_tokens = plan["claimed_targets"]
    if val_loss is not None and val_bpb is not None and val_tokens is not None:
        try:
            total = implied_bytes(Number.of(val_loss), Number.of(val_bpb), val_tokens)
            plan |= {"claimed_bytes": total.value, "tolerance": total.slack}
        except ValueError as error:
            remedy = "Give nats a token, bits a byte and the number of tokens, as the log prints them."
            raise UsageError(f"these three numbers can't belong together: {error}.", remedy=remedy) from None
    elif val_loss is not None or val_bpb is not None:
        raise UsageError("a claim needs --val-loss, --val-bpb and --val-tokens.", remedy="Give all three.")
    if folder is None:
        if None in (val_loss, val_bpb, val_tokens):
            raise UsageError("nothing to check.", remedy="Give a folder of shards, or a claim of three numbers.")
        report = ByteReport(judge_claim(str(val_loss), str(val_bpb), int(val_tokens or 0)))
    else:
        report = check_bytes(folder, make_reporter(silent=as_json), **plan, at_bpb=float(val_bpb) if val_bpb else 1.0)
    lines = [f"{finding.rule} {finding.verdict}: {printable(finding.message, 500)}" for finding in report.findings]
    if (table := report.comparison) is not None:
        rows = [
            (d.cause, f"{d.targets:,}", f"{d.bytes:+,}", f"{d.bpb:+.6f}" if math.isfinite(d.bpb) else "")
            for d in table.differences
        ]
        rows.append(("all causes", "", f"{table.table_bytes - table.exact_bytes:+,}", ""))
        lines += ["", f"Look-up table {table.table_bytes:,} bytes, exact ledger {table.exact_bytes:,} bytes:"]
        lines.append(fitted_table(("cause", "targets", "bytes", f"change of a score of {table.at_bpb:g} bpb"), rows))
    say(report, "\n".join(lines), as_json=as_json)
    return rules.exit_code_of(report.findings)
