"""Tables and templates that know the terminal's width."""

import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from harness.rules import title_of
from harness.text import printable, templates

NUMBERS = ("bpb", "Δ bpb", "nats/token", "bytes", "seconds", "limit", "tries")
WIDEST, NARROW = 120, 60
RULED = box.Box("    \n    \n -- \n" + 5 * "    \n", ascii=True)


def fitted_text(template: str, **values: object) -> str:
    """What a template beside this file makes of ``values``: lines of cells between bars become fitted tables."""
    found = templates(Path(__file__).parent)
    found.filters |= {"title_of": title_of, "plain": lambda *text: printable(*text).replace("|", "/")}
    parts = []
    for block in filter(None, found.get_template(template).render(values).strip("\n").split("\n\n")):
        block = block.strip("\n")
        if block.startswith("|"):
            headers, *rows = ([cell.strip() for cell in line[1:].split("|")] for line in block.split("\n"))
            shown = slice(2 if headers[-1] == "scope" and terminal_width() < NARROW else None)
            block = fitted_table(tuple(headers[shown]), (row[shown] for row in rows))
        parts.append(block)
    return "\n\n".join(filter(None, parts))


def terminal_width() -> int:
    """Columns of the terminal up to what is still read with ease, which is also what no terminal gets."""
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)


def fitted_table(headers: tuple[str, ...], rows: Iterable[Sequence[str]]) -> str:
    """A table at most as wide as the terminal: the last column gives way, below NARROW all words."""
    width = terminal_width()
    table = Table(box=RULED, show_edge=False, pad_edge=False, width=None)
    for header in headers:
        side: Literal["left", "right"] = "right" if header in NUMBERS else "left"
        kept = header in NUMBERS or (width >= NARROW and header != headers[-1])
        table.add_column(Text(header), justify=side, no_wrap=kept, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return "\n".join(line for line in as_text(table).splitlines() if line)


def as_text(shown: RenderableType) -> str:
    """What rich draws, as plain text at most as wide as the terminal."""
    out = io.StringIO()
    Console(file=out, width=terminal_width(), color_system=None, force_terminal=False).print(shown)
    return "\n".join(map(str.rstrip, out.getvalue().splitlines()))
