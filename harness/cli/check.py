"""``harness check``: look at something that the referee did not make, and teach the rules."""

import click
import msgspec

from harness.cli import TEXTS, LazyGroup, epilog, say
from harness.rules import catalogue, enforcing_code, explain, matching

CHECKS: dict[str, tuple[str, str]] = TEXTS["checks"]


@click.group(cls=LazyGroup, places=CHECKS, invoke_without_command=True, epilog=epilog("check"))
@click.option("--explain", "explained", metavar="RULE", help='Teach a rule, a section such as A3, or "list" them all.')
@click.option("--json", "as_json", is_flag=True, help="With --explain: as JSON.")
@click.pass_context
def command(ctx: click.Context, explained: str | None, as_json: bool) -> None:
    """Check public record folders, claims and byte counts; explain rules."""
    if explained is not None:
        listing = explained.strip().lower() == "list"
        chosen = list(catalogue().values()) if listing else matching(explained)
        width = max(len(item.id) for item in chosen)
        lines = [f"{item.id:<{width}}  {item.title}" if listing else f"{explain(item)}\n\n" for item in chosen]
        taught = [msgspec.to_builtins(item) | {"line": enforcing_code(item)[1]} for item in chosen]
        say(taught, "\n".join(lines).rstrip(), as_json=as_json)
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
