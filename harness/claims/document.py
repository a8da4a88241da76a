"""A text taken apart: lines without decoration, its tables, its paragraphs, and the seeds that it reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.claims.quantity import Quantity, read_quantities
from harness.claims.spread import Range, mean_of
from harness.claims.tables import Table, plain, read_tables

OTHERS = re.compile(
    r"(?:\b(?:PRs?|SOTA|baseline|leader(?:board)?|previous|prior|(?<!non-)record(?!:)|current|versus|vs\.?|merged|base|"
    r"original|upstream|predecessor|against|from|over)\b|#\d+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Column:
    """One column of seeds: where it stands, what it holds, and its numbers by seed."""

    table: Table
    index: int
    name: str
    kind: str
    values: tuple[Quantity, ...]

    @property
    def mean(self) -> Range:
        """The mean over the seeds."""
        return mean_of(self.values)


@dataclass(frozen=True)
class Line:
    """One line outside tables: 1-based number, its bare text, and the numbers in it."""

    number: int
    text: str
    quantities: tuple[Quantity, ...]


class Document:
    """A claim-bearing text."""

    def __init__(self, text: str) -> None:
        self.raw = text.splitlines()
        self.tables = read_tables(self.raw)

    @cached_property
    def table_lines(self) -> set[int]:
        """Numbers of the lines that belong to tables."""
        return {row.line for table in self.tables for row in table.rows} | {table.line for table in self.tables}

    @cached_property
    def every_line(self) -> list[Line]:
        """All lines that hold a number."""
        numbered = ((number, plain(raw)) for number, raw in enumerate(self.raw, 1) if any(c.isdigit() for c in raw))
        return [Line(number, text, tuple(read_quantities(text))) for number, text in numbered]

    @cached_property
    def lines(self) -> list[Line]:
        """The same without tables."""
        return [line for line in self.every_line if line.number not in self.table_lines]

    @cached_property
    def paragraphs(self) -> list[list[Line]]:
        """Runs of non-empty lines, as the lines with numbers in them."""
        groups: list[list[Line]] = []
        previous = None
        for line in self.lines:
            between = self.raw[previous.number : line.number - 1] if previous else [""]
            if previous is None or any(not text.strip() for text in between):
                groups.append([])
            groups[-1].append(line)
            previous = line
        return groups

    @cached_property
    def columns(self) -> list[Column]:
        """Every column of seeds in the text's tables, with at least two seeds."""
        return [column for table in self.tables for column in _columns(table)]

    def of_kind(self, kind: str) -> list[Column]:
        """Columns that hold ``kind``."""
        return [column for column in self.columns if column.kind == kind]

    def final_column(self, kind: str) -> Column | None:
        """The column that a headline of this kind speaks of: after test-time training or sliding, else the last."""
        columns = self.of_kind(kind)
        final = [c for c in columns if re.search(r"ttt|sliding|final|post|test-time", c.name, re.IGNORECASE)]
        chosen = final or columns
        return chosen[-1] if chosen else None


def _columns(table: Table) -> Iterator[Column]:
    for index in range(max((len(row.cells) for row in table.seed_rows), default=0)):
        values = table.values(index)
        if len(values) > 1:
            yield Column(table, index, table.name(index), table.kind(index), tuple(values))


def quote(text: str, quantity: Quantity | None = None, width: int = 70) -> str:
    """A few words of ``text`` around ``quantity``."""
    text = " ".join(text.split()) if quantity is None else text
    if quantity is None or len(text) <= width:
        return text if len(text) <= width else text[: width - 1] + "…"
    start = max(0, quantity.start - width // 2)
    piece = text[start : start + width].strip()
    return ("…" if start else "") + piece + ("…" if start + width < len(text) else "")
