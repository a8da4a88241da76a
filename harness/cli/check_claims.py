"""``harness check claims``: do a text's numbers follow from each other?"""

from pathlib import Path

import click

from harness.cli import FILE, epilog
from harness.errors import CouldNotCheck, ExitCode
from harness.files import read_regular
from harness.review.claims import check_text, claims_json, render_claims
from harness.rules import Verdict

MAX_TEXT_BYTES = 2_000_000


@click.command(epilog=epilog("claims"))
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--problems", is_flag=True, help="Show only what is wrong or disputed.")
@click.option("--json", "as_json", is_flag=True, help="Print every claim as JSON.")
def command(files: tuple[Path, ...], problems: bool, as_json: bool) -> int:
    """Recompute the numbers that texts claim (FILES: Markdown or plain text)."""
    found = {path: check_text(_read(path)) for path in files}
    if as_json:
        click.echo(claims_json({str(path): claims for path, claims in found.items()}))
    else:
        blocks = [render_claims(str(path), claims, every=not problems) for path, claims in found.items()]
        click.echo("\n\n".join(blocks))
    wrong = any(claim.verdict is Verdict.FAIL for claims in found.values() for claim in claims)
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
