"""A text taken apart: lines without decoration, its tables, its paragraphs, and the seeds that it reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.claims.quantity import Quantity, read_quantities
from harness.claims.spread import Range, mean_of, std_of
from harness.claims.tables import Table, plain, read_tables

OTHERS = re.compile(
    r"(?:\b(?:PRs?|SOTA|baseline|leader(?:board)?|previous|prior|(?<!non-)record(?!:)|current|versus|vs\.?|merged|base|"
    r"original|upstream|predecessor|against|from|over)\b|#\d+)",
    re.IGNORECASE,
)


MAX_CHARACTERS = 200_000
MAX_LINES = 10_000
MAX_LINE = 4_000
MAX_NUMBERS = 3_000
MAX_COLUMNS = 60
"""What is read of one text: characters, lines, characters of a line, numbers, columns of seeds.

The work grows with the square of the numbers. The longest of 61 public READMEs has 12,000 characters, 246 numbers and
14 columns. What lies beyond is named, see :attr:`Document.left_out`.
"""
_NUMBERISH = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True)
class Column:
    """One column of seeds: where it stands, what it holds, and its numbers by seed."""

    table: Table
    index: int
    name: str
    kind: str
    values: tuple[Quantity, ...]

    @cached_property
    def mean(self) -> Range:
        """The mean over the seeds."""
        return mean_of(self.values)

    @cached_property
    def sample_std(self) -> Range:
        """The sample deviation over the seeds."""
        return std_of(self.values, sample=True)

    @cached_property
    def population_std(self) -> Range:
        """The population deviation over the seeds."""
        return std_of(self.values, sample=False)


@dataclass(frozen=True)
class Line:
    """One line outside tables: 1-based number, its bare text, and the numbers in it."""

    number: int
    text: str
    quantities: tuple[Quantity, ...]


class Document:
    """A claim-bearing text, as far as the limits above go.

    left_out: (1-based line, what was not read from there on); empty for all texts of a usual size
    """

    def __init__(self, text: str) -> None:
        self.raw, self.left_out = _within_limits(text)
        self.tables = read_tables(self.raw)
        columns = [column for table in self.tables for column in _columns(table)]
        self.columns = columns[:MAX_COLUMNS]
        if len(columns) > MAX_COLUMNS:
            words = (
                f"the text has {len(columns)} columns of seeds; those after the first {MAX_COLUMNS} are not compared"
            )
            self.left_out.append((columns[MAX_COLUMNS].table.line, words))

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
    def values_by_seed(self) -> dict[int, list[tuple[Column, Quantity]]]:
        """Seed -> what the columns of seeds say of it."""
        found: dict[int, list[tuple[Column, Quantity]]] = {}
        for column in self.columns:
            for row, value in zip(column.table.seed_rows, column.values, strict=True):
                if row.seed is not None:
                    found.setdefault(row.seed, []).append((column, value))
        return found

    def of_kind(self, kind: str) -> list[Column]:
        """Columns that hold ``kind``."""
        return [column for column in self.columns if column.kind == kind]

    def final_column(self, kind: str) -> Column | None:
        """The column that a headline of this kind speaks of: after test-time training or sliding, else the last."""
        columns = self.of_kind(kind)
        final = [c for c in columns if re.search(r"ttt|sliding|final|post|test-time", c.name, re.IGNORECASE)]
        chosen = final or columns
        return chosen[-1] if chosen else None


def _within_limits(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The lines that are read, and where something was left out. Nothing is cut inside a word."""
    lines: list[str] = []
    left_out: list[tuple[int, str]] = []
    whole = text[:MAX_CHARACTERS].splitlines()
    if len(text) > MAX_CHARACTERS:
        whole = whole[:-1]
    if len(whole) > MAX_LINES:
        left_out.append((MAX_LINES + 1, f"what follows the first {MAX_LINES:,} lines is not read"))
    elif len(text) > MAX_CHARACTERS:
        left_out.append((len(whole) + 1, f"what follows the first {MAX_CHARACTERS:,} characters is not read"))
    numbers = 0
    for number, line in enumerate(whole[:MAX_LINES], 1):
        numbers += len(_NUMBERISH.findall(line[:MAX_LINE]))
        if numbers > MAX_NUMBERS:
            before = [entry for entry in left_out if entry[0] < number]
            return lines, [*before, (number, f"what follows the first {MAX_NUMBERS:,} numbers is not read")]
        if len(line) > MAX_LINE:
            left_out.append((number, f"the line has {len(line):,} characters; those after {MAX_LINE:,} are not read"))
            line = line[:MAX_LINE].rpartition(" ")[0]
        lines.append(line)
    return lines, left_out


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
