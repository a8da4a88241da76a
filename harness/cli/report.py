"""``harness report``: tables, Markdown and one HTML page from records."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.errors import ExitCode

EPILOG = """\b
The page is one file: no scripts, nothing fetched, readable in print, in the dark and on a phone. Each record is
verified while it is read, and its verdict stands beside its figures.

\b
Examples:
  harness report                                    all of records/ and .golf/records, into .golf/report
  harness report records/runs/X.json                one record
  harness report records other/records --out DIR    several folders
  harness report --baseline ../records --margin "0.005 nats/token"
  harness report --json                             the figures for machines

Exit codes: 0 good (warnings included), 1 a record fails, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", envvar="OUT", type=click.Path(path_type=Path, file_okay=False), show_default=True,
              default=Path(".golf") / "report", help="Folder for report.html and report.md. [env: OUT]")  # fmt: skip
@click.option("--trust", type=click.Path(path_type=Path), help="Folder of accepted public keys, for the baseline too.")
@click.option("--baseline", envvar="BASELINE", type=click.Path(path_type=Path, exists=True, file_okay=False),
              metavar="DIR", help="Also test the records (one pool) against this folder. [env: BASELINE]")  # fmt: skip
@click.option("--margin", envvar="MARGIN", metavar="MARGIN",
              help='"0.005 nats/token" (official tracks), "… nats/byte" or "… bpb". [env: MARGIN]')  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON; the files are written all the same.")
def command(
    paths: tuple[Path, ...], out: Path, trust: Path | None, baseline: Path | None, margin: str | None, as_json: bool
) -> int:
    """Report on signed records: all of records/ and of your own, or the folders and files PATHS."""
    from harness.config.variables import records_to_read
    from harness.report import collect, render_terminal, write_markdown, write_page
    from harness.rules import Verdict

    report = collect(paths or records_to_read(), trust=trust, baseline=baseline, margin=margin)
    page, markdown = out / "report.html", out / "report.md"
    write_page(report, page)
    write_markdown(report, markdown)
    if as_json:
        from harness.report.document import report_document

        files = {"html": str(page), "markdown": str(markdown)}
        click.echo(json.dumps(report_document(report) | files, indent=1))
    else:
        click.echo(f"{render_terminal(report)}\n\npage:     {page}\nmarkdown: {markdown}")
    bad = any(run.verdict is Verdict.FAIL for run in report.runs) or any(
        finding.verdict is Verdict.FAIL for finding in report.folder_findings
    )
    return ExitCode.RULE_BROKEN if bad else ExitCode.GOOD
