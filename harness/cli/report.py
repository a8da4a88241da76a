"""``harness report``: tables, Markdown and one HTML page from records; ``harness export``: the forms of others."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.markdown import Markdown

from harness.cli import AGAINST, JSON, OUT_FOLDER, PATH, epilog, say, with_options
from harness.cli.check_public import with_progress
from harness.cli.result import as_text, terminal_width
from harness.config.variables import records_to_read
from harness.errors import ExitCode, UsageError
from harness.files import write_atomic
from harness.report.figures import FINEWEB, FolderClaim, Standing, collect, report_document
from harness.report.page import render_markdown, render_page
from harness.report.public_folder import the_pool, write_hub_result, write_public_folder
from harness.review.findings import Readings
from harness.review.folder import check_folders
from harness.review.output import record_folders
from harness.rules import Verdict, exit_code_of
from harness.text import printable


@click.command(epilog=epilog("report"))
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--out", envvar="OUT", type=OUT_FOLDER, show_default=True,
              default=Path(".golf") / "report", help="Folder for report.html and report.md. [env: OUT]")  # fmt: skip
@with_options(*AGAINST)
@JSON
def command(
    paths: tuple[Path, ...], out: Path, trust: Path | None, baseline: Path | None, margin: str | None, as_json: bool
) -> int:
    """A board of signed records and public record folders: all of records/ and of your own, or PATHS."""
    records, public = [], []
    for path in paths or records_to_read():
        if (path / "submission.json").is_file() and (path / "records" / "runs").is_dir():
            records.append(path / "records")  # an exported folder brings its signed records, and those count
        elif path.is_dir() and not (path / "runs").is_dir() and not (path / "keys").is_dir() and any(path.iterdir()):
            public.append(path)
        else:
            records.append(path)
    claims = _claims(public) if public else []
    report = collect(records, trust=trust, baseline=baseline, margin=margin, claims=claims)
    page, markdown, text = out / "report.html", out / "report.md", render_markdown(report)
    write_atomic(page.absolute(), render_page(report).encode(), replace=True)
    write_atomic(markdown.absolute(), text.encode(), replace=True)
    document = report_document(report) | {"html": str(page), "markdown": str(markdown)}
    found = [(printable(pool.title), pool.statistics.warning) for pool in report.pools if pool.statistics]
    ends = [f"WARNING: {title}: {warning}" for title, warning in found if warning]
    ends += [f"page:     {page}", f"markdown: {markdown}"]
    shown = as_text(Markdown(render_markdown(report, terminal_width())))
    say(document, f"{shown}\n\n" + "\n".join(ends), as_json=as_json)
    judged = [*(finding for run in report.runs for finding in run.findings), *report.folder_findings]
    bad = any(claim.standing.verdict is Verdict.FAIL for claim in claims)
    return ExitCode.RULE_BROKEN if bad else exit_code_of(judged)


def _claims(folders: Sequence[Path]) -> list[FolderClaim]:
    """What public folders claim, each checked, as rows of the board."""
    paths, claims = record_folders(folders), []
    for found in with_progress(check_folders(paths, Readings()), len(paths)):
        facts = {name: float(value) for name, value in found.facts.items() if isinstance(value, int | float)}
        standing = Standing(
            name=Path(found.folder).resolve().name,
            track=found.track,
            data=FINEWEB,
            bpb=facts.get("logged_mean_bpb", facts.get("claimed_bpb")),
            sample_std=facts.get("logged_std_bpb"),
            seeds=int(facts.get("seeds", 0)),
            total_bytes=int(facts["largest_bytes"]) if "largest_bytes" in facts else None,
            clocks={name: facts[f"longest_{name}_s"] for name in ("train", "eval") if f"longest_{name}_s" in facts},
            verdict=found.verdict,
            kind="self-reported",
        )
        shown = (f for f in found.findings if f.verdict is not Verdict.PASS)
        said = tuple((f.rule, f.verdict.value, f"{f.file}: {f.message}".removeprefix(": ")) for f in shown)
        claims.append(FolderClaim(standing, said))
    return claims


@click.command(epilog=epilog("export"))
@click.argument("paths", nargs=-1, required=True, metavar="RECORD|RECORDS...", type=PATH)
@click.argument("out", type=PATH)
@click.option("--as", "form", required=True, type=click.Choice(("parameter-golf", "markdown", "huggingface")))
@click.option("--author", default="", help="Your name for submission.json. [default: the owner of the signing key]")
@click.option("--github-id", default="", help="Your account for submission.json. [default: the author]")
@click.option("--benchmark", default="", metavar="OWNER/DATASET", help="huggingface: the benchmark's data set.")
@click.option("--source", default="", metavar="URL", help="huggingface: where the records can be read.")
@click.option("--trust", type=PATH, help="Folder of accepted public keys.")
@JSON
def export_command(
    paths: tuple[Path, ...],
    out: Path,
    form: str,
    benchmark: str,
    source: str,
    trust: Path | None,
    as_json: bool,
    **by: str,
) -> int:
    """Write one run, or the seeds of one, in the form that others read. RECORDS are files or records folders."""
    report = collect(paths, trust=trust)
    if form == "parameter-golf":
        write_public_folder(report, out, **by)
    elif form == "markdown":
        the_pool(report)
        write_atomic(out.absolute(), render_markdown(report).encode(), replace=True)
    elif "/" not in benchmark:
        raise UsageError("--as huggingface needs --benchmark OWNER/DATASET.", remedy="Name the data set that hosts it.")
    else:
        out = write_hub_result(report, out, benchmark=benchmark, source=source)
    say({"written": str(out)}, f"written: {out}", as_json=as_json)
    return ExitCode.GOOD
