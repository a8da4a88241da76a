"""The commands: a module each, imported when its command is asked for."""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import click
import msgspec

from harness.errors import UsageError

TEXTS = msgspec.toml.decode(Path(__file__).with_name("help.toml").read_bytes())


class LazyGroup(click.Group):
    """A group whose help needs no import of its commands, so that it starts fast.

    places: name -> ("module:command" in this package, a line of help)
    """

    def __init__(self, *arguments: Any, places: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command of a name, or ``None`` for an unknown one."""
        if cmd_name not in self.places:
            return None
        module, _, name = self.places[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"harness.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in self.places.items()])


def epilog(command: str, **values: str) -> str:
    """What ``--help`` says below the options of a command, with ``values`` put in."""
    return str(TEXTS["below"][command]).format(**values)


def with_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All ``options``, those of click, as one decorator: what several commands share."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def say(document: object, text: str, *, as_json: bool) -> None:
    """Print a result: ``text`` for people, or the ``document`` (data, structs, dataclasses) as JSON."""
    click.echo(json.dumps(msgspec.to_builtins(document), indent=2) if as_json else text)


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; no progress.")
PATH = click.Path(path_type=Path)
FILE, FOLDER = (click.Path(path_type=Path, exists=True, file_okay=f, dir_okay=not f) for f in (True, False))
OUT_FILE, OUT_FOLDER = (click.Path(path_type=Path, file_okay=f, dir_okay=not f) for f in (True, False))
AGAINST = (  # which keys count, and what is to be beaten
    click.option("--trust", type=PATH, help="Folder of accepted keys, for the baseline too."),
    click.option("--baseline", envvar="BASELINE", type=FOLDER,
                 metavar="DIR", help="Also test the records (one pool of seeds) against this folder. [env: BASELINE]"),
    click.option("--margin", envvar="MARGIN",
                 help='By how much: "0.005 nats/token" (official tracks), "… nats/byte" or "… bpb". [env: MARGIN]'),
)  # fmt: skip


def name_values(option: str, pairs: Iterable[str], example: str) -> dict[str, str]:
    """The values of a repeatable option NAME=VALUE. Raises ``UsageError`` for a pair of another form."""
    found = {}
    for pair in pairs:
        name, separator, found[name] = pair.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"{option} is {pair!r}; wanted NAME=VALUE.", remedy=f"Example: {option} {example}.")
    return found
