"""``harness check pulls``: every record folder that the pull requests of a local clone add."""

import os
from pathlib import Path

import click

from harness.cli import FOLDER, OUT_FOLDER, epilog
from harness.errors import ExitCode, UsageError
from harness.files import write_atomic
from harness.git import git
from harness.progress import make_reporter
from harness.review import board, pulls
from harness.review.findings import with_settings


@click.command(epilog=epilog("pulls"))
@click.argument("repository", type=FOLDER)
@click.option("--base", default="HEAD", show_default=True, metavar="REVISION", help="The branch that they go to.")
@click.option("--out", type=OUT_FOLDER, default="pulls-report", show_default=True)
@click.option("--jobs", type=click.IntRange(1, 64), help="Processes (default: one a core, at most 8).")
@click.option("--only", metavar="N or N-M", help="Only these pull requests.")
@click.option("--reading", "settings", multiple=True, metavar="NAME=VALUE", help="As in harness check folder.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    repository: Path, base: str, out: Path, jobs: int | None, only: str | None, settings: tuple[str, ...], quiet: bool
) -> int:
    """Judge every record folder that the pull requests of the clone REPOSITORY add."""
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
    order = {(item.added.pull.number, item.added.path): item for item in judged}
    judged = [order[key] for key in sorted(order)]
    write_atomic(lines.absolute(), b"".join(item.line() for item in judged), replace=True, mode=None)
    board.write_board(judged, f"{len(chosen)} pull requests, {len(judged)} record folders", out)
    click.echo(f"{len(chosen)} pull requests, {len(judged)} record folders: {out}/board.html, board.csv, folders.jsonl")
    return ExitCode.GOOD
