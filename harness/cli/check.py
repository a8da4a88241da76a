"""``harness check``: look at something that the referee did not make, and teach the rules."""

from __future__ import annotations

import json

import click
import msgspec

from harness.cli import LazyGroup
from harness.rules import catalogue, enforcing_code, explain, matching

CHECKS = {
    "folder": ("check_folder:command", "public record folders: metadata, logs, statistics and code, read as data"),
    "claims": ("check_claims:command", "numbers that a text claims, from the numbers that it names"),
    "pulls": ("check_pulls:command", "every record folder that the pull requests of a clone add: a board"),
    "bytes": ("check_bytes:command", "byte counts of a tokenizer and data set, against the raw documents"),
}

EPILOG = """\b
Examples:
  harness check folder records/track_10min_16mb/2026-03-17_NaiveBaseline
  harness check --explain A3-ARTIFACT-BYTES     one rule: text, the code and the test that hold it, why, fix, example
  harness check --explain A3                    every rule of a section
  harness check --explain list                  the ids

Exit codes: 0 good (warnings included), 1 a rule is broken, 2 wrong usage, 3 could not check."""


@click.group(cls=LazyGroup, places=CHECKS, invoke_without_command=True, epilog=EPILOG)
@click.option("--explain", "explained", metavar="RULE", help='Teach a rule, a section such as A3, or "list" them all.')
@click.option("--json", "as_json", is_flag=True, help="With --explain: as JSON.")
@click.pass_context
def command(ctx: click.Context, explained: str | None, as_json: bool) -> None:
    """Check public record folders, claims and byte counts; explain rules."""
    if explained is not None:
        listing = explained.strip().lower() == "list"
        chosen = list(catalogue().values()) if listing else matching(explained)
        if as_json:
            taught = [msgspec.to_builtins(item) | {"line": enforcing_code(item)[1]} for item in chosen]
            click.echo(json.dumps(taught, indent=1, ensure_ascii=False))
        elif listing:
            width = max(len(item.id) for item in chosen)
            click.echo("\n".join(f"{item.id:<{width}}  {item.title}" for item in chosen))
        else:
            click.echo("\n\n\n".join(explain(item) for item in chosen))
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(0)
