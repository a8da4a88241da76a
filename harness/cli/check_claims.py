"""``harness check claims``: do a text's numbers follow from each other, and from the records?"""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import PATH
from harness.errors import CouldNotCheck, ExitCode, UsageError
from harness.files import read_regular
from harness.record import verify_folder
from harness.review.against_records import check_against_records
from harness.review.claims import check_text, claims_json, render_claims
from harness.rules import Verdict

MAX_TEXT_BYTES = 2_000_000
EPILOG = """\b
What is recomputed from the seeds in the text's tables: rows of means, deviations and extremes, and headline figures
("1.1456 bpb (3-seed mean, std 0.0011)"). Numbers are taken as printed: a claim holds when some unrounded inputs give
it.

\b
Four words: WRONG, the text contradicts itself; DISPUTED, it holds only under a reading that it should name (such as
the population deviation); holds; not checkable, the text does not give the inputs.

\b
Of a very long text (200,000 characters) the beginning is read; what was not is named.

\b
Examples:
  harness check claims README.md
  harness check claims pull-request.txt --records records      also against signed records
  harness check claims *.md --problems                         only what is wrong or disputed
  harness check claims README.md --json

Exit codes: 0 nothing wrong (disputed claims included), 1 a claim is wrong, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--records", type=PATH, metavar="DIR", help="Also compare each table with the records that it fits.")
@click.option("--problems", is_flag=True, help="Show only what is wrong or disputed.")
@click.option("--json", "as_json", is_flag=True, help="Print every claim as JSON.")
def command(files: tuple[Path, ...], records: Path | None, problems: bool, as_json: bool) -> int:
    """Recompute the numbers that texts claim (FILES: Markdown or plain text)."""
    found, sound = {}, []
    if records is not None:
        entries = verify_folder(records, judge_runs=False).records
        sound = [entry.record for entry in entries if entry.record and entry.verdict is not Verdict.FAIL]
        if not sound:
            words = f"{records} holds no record that verifies."
            raise CouldNotCheck(words, remedy=f"See `harness verify {records}`.")
    for path in files:
        text = _read(path)
        found[path] = check_text(text)
        if records is not None:
            found[path] += check_against_records(text, sound)
    if as_json:
        click.echo(claims_json({str(path): claims for path, claims in found.items()}))
    else:
        blocks = [render_claims(str(path), claims, every=not problems) for path, claims in found.items()]
        click.echo("\n\n".join(blocks))
    wrong = any(claim.verdict is Verdict.FAIL for claims in found.values() for claim in claims)
    return ExitCode.RULE_BROKEN if wrong else ExitCode.GOOD


def _read(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path} is not a file.", remedy="Give a Markdown or text file.")
    data = read_regular(path, MAX_TEXT_BYTES, links=True)
    if len(data) > MAX_TEXT_BYTES:
        raise CouldNotCheck(
            f"{path} is larger than {MAX_TEXT_BYTES:,} bytes; no README is.", remedy="Give a Markdown or text file."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CouldNotCheck(f"{path} is not UTF-8 text (byte {error.start:,}).", remedy="Convert it first.") from error
