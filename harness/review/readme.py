"""A README or pull request text: its lines without decoration, its tables, its columns of seeds. For both commands.

Markdown is taken apart by markdown-it; tables that were pasted without Markdown are read as tables too.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.review.number import QUANTITY, Number, Range, mean_of, read_numbers, read_one
from harness.review.patterns import PATTERNS, WORDS, first_of

MAX_CHARACTERS, MAX_LINE, MAX_COLUMNS = 200_000, 4_000, 300
"""What is read of one text: characters, characters of a line, columns of seeds. What lies beyond is named."""
_PARSER = MarkdownIt("commonmark", {"maxNesting": 20}).enable("table")


@dataclass(frozen=True)
class Row:
    """One row: its line in the text, its first cell, and the other cells (text)."""

    line: int
    label: str
    cells: tuple[str, ...]

    @cached_property
    def seed(self) -> int | None:
        """The seed it is about."""
        match = WORDS["seed_cell"].match(self.label)
        return int(match[1]) if match else None

    @cached_property
    def aggregate(self) -> str:
        """ "mean", "std", … or ""."""
        return first_of(PATTERNS.aggregates, self.label)

    def cell(self, column: int) -> str:
        """The text of a cell; empty beyond the last."""
        return self.cells[column] if column < len(self.cells) else ""

    def value(self, column: int) -> Number | None:
        """The number that the cell begins with."""
        return read_one(self.cell(column))


@dataclass(frozen=True)
class Table:
    """A table: its header (without the first cell, which is ``corner``) and its rows."""

    line: int
    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def seed_rows(self) -> tuple[Row, ...]:
        """Rows that are about one seed each; empty unless the table says that it is about seeds or runs, each once."""
        rows = tuple(row for row in self.rows if row.seed is not None and not row.aggregate)
        if len({row.seed for row in rows}) < len(rows):
            return ()  # Several variants of each seed: no column is one of seeds.
        about = re.search(r"\b(seed|run|trial)s?\b", self.corner, re.IGNORECASE)
        return rows if about or any(row.aggregate for row in self.rows) else ()

    def name(self, column: int) -> str:
        """The column's header, or its place."""
        name = self.header[column].strip() if column < len(self.header) else ""
        return name or f"column {column + 2}"

    def values(self, column: int) -> list[Number]:
        """The seeds' numbers in one column, exact where the column counts something; empty if one is missing."""
        found = [value for row in self.seed_rows if (value := row.value(column)) is not None]
        kind, typed = self.kinds[column], list[Number]()
        for value in found if len(found) == len(self.seed_rows) else ():
            exact = value.whole and (kind in ("bytes", "count") or "," in value.text)
            typed.append(dataclasses.replace(value, half=0.0 if exact else value.half, kind=value.kind or kind))
        return typed

    @cached_property
    def kinds(self) -> list[str]:
        """What each column holds: bpb, nats, bytes, seconds, count, or ""."""
        return [self._kind(column) for column in range(max((len(row.cells) for row in self.rows), default=0))]

    def _kind(self, column: int) -> str:
        name = self.name(column).lower()
        values = [value for row in self.seed_rows if (value := row.value(column)) is not None]
        units = {value.kind for value in values} - {""}
        if len(units) == 1 and units != {"percent"}:
            return units.pop()
        for kind, pattern in PATTERNS.columns.items():
            if pattern.search(name) and (kind != "bytes" or all(value.value > 1e4 for value in values)):
                return kind
        return "bpb" if values and all(value.step < 1e-2 and 0.3 < value.value < 10 for value in values) else ""


@dataclass(frozen=True)
class Column:
    """One column of seeds: where it stands, what it holds, and its numbers by seed."""

    table: Table
    index: int
    name: str
    kind: str
    values: tuple[Number, ...]

    @cached_property
    def mean(self) -> Range:
        """The mean over the seeds."""
        return mean_of(self.values)


@dataclass(frozen=True)
class Line:
    """One line: 1-based number, its bare text, the numbers in it, and whether it is a heading."""

    number: int
    text: str
    numbers: tuple[Number, ...]
    heading: bool = False


class Document:
    """A text with claims, as far as the limits above go.

    raw:      its lines as written
    text:     1-based line -> the line without decoration, outside tables
    left_out: (1-based line, what was not read from there on); empty for all texts of a usual size
    """

    def __init__(self, text: str) -> None:
        self.raw, self.left_out = _within_limits(text)
        self.text: dict[int, str] = {}
        self.headings: set[int] = set()
        tables = list(self._parse(_PARSER.parse("\n".join(self.raw))))
        tables += _plain_tables([self.text.get(number, "") for number in range(1, len(self.raw) + 1)])
        self.in_tables = {row.line for table in tables for row in table.rows} | {table.line for table in tables}
        self.tables = sorted(map(_seed_first, tables), key=lambda table: table.line)
        columns = [
            Column(table, index, table.name(index), table.kinds[index], tuple(values))
            for table in self.tables
            for index in range(max((len(row.cells) for row in table.seed_rows), default=0))
            if len(values := table.values(index)) > 1
        ]
        self.columns = columns[:MAX_COLUMNS]
        if len(columns) > MAX_COLUMNS:
            words = f"of its {len(columns)} columns of seeds those after the first {MAX_COLUMNS} are not compared"
            self.left_out.append((columns[MAX_COLUMNS].table.line, words))

    def _parse(self, tokens: Sequence[Token]) -> Iterator[Table]:
        """Fill :attr:`text` from a token stream; yield its tables."""
        rows: list[tuple[int, list[str]]] = []
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token.type == "tr_open" and token.map:
                rows.append((token.map[0] + 1, []))
            elif token.type == "inline" and before is not None and before.type in ("td_open", "th_open"):
                rows[-1][1].append(" ".join(_inline(token)).strip())
            elif token.type == "table_close" and rows:
                (line, header), *body = rows
                made = [Row(at, cells[0], tuple(cells[1:])) for at, cells in body if cells]
                yield Table(line, header[0], tuple(header[1:]), tuple(made))
                rows = []
            elif token.type == "inline" and token.map:
                at = token.map[0] + 1
                self.text |= dict(enumerate(_inline(token), at))
                if before is not None and before.type == "heading_open":
                    self.headings.add(at)
            elif token.type in ("fence", "code_block", "html_block") and token.map:
                at = token.map[0] + (2 if token.type == "fence" else 1)
                self.text |= dict(enumerate(token.content.splitlines(), at))

    @cached_property
    def with_rows(self) -> dict[int, str]:
        """:attr:`text` and the rows of tables."""
        rows = {row.line: " | ".join((row.label, *row.cells)) for table in self.tables for row in table.rows}
        return dict(sorted((rows | self.text).items()))

    @cached_property
    def every_line(self) -> list[Line]:
        """All lines that hold a number, rows of tables too."""
        return [
            Line(number, text, tuple(read_numbers(text)), number in self.headings)
            for number, text in self.with_rows.items()
            if any(c.isdigit() for c in text)
        ]

    @cached_property
    def lines(self) -> list[Line]:
        """The same without tables."""
        return [line for line in self.every_line if line.number not in self.in_tables]

    def above(self, number: int) -> str:
        """The nearest line of text above a line."""
        return self.text.get(max((n for n in self.text if n < number), default=0), "")


def _inline(token: Token) -> list[str]:
    """The lines of an inline token without decoration."""
    shown = {"softbreak": "\n", "hardbreak": "\n", "html_inline": ""}
    parts = ("^" if c.content.lower() == "<sup>" else shown.get(c.type, c.content) for c in token.children or ())
    return "".join(parts).split("\n")


def _within_limits(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The lines that are read, and where something was left out. Nothing is cut inside a word."""
    lines, left_out = text[:MAX_CHARACTERS].splitlines(), list[tuple[int, str]]()
    if len(text) > MAX_CHARACTERS:
        lines = lines[:-1]
        left_out.append((len(lines) + 1, f"what follows the first {MAX_CHARACTERS:,} characters is not read"))
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            left_out.append((number, f"the line has {len(line):,} characters; those after {MAX_LINE:,} are not read"))
            lines[number - 1] = line[:MAX_LINE].rpartition(" ")[0]
    return lines, left_out


def _plain_tables(lines: Sequence[str]) -> Iterator[Table]:
    """Rows such as "1337 1.1389 1.1441 15,930,191 B", which remain when a web page is pasted."""
    block: list[Row] = []
    for number, line in enumerate([*lines, "end"], 1):
        row = _plain_row(number, line)
        if row is not None:
            block.append(row)
        elif line.strip():
            if sum(entry.seed is not None for entry in block) > 1:
                width, words = max(len(entry.cells) for entry in block), lines[block[0].line - 2].split()
                named = len(words) > width and block[0].line > 1
                header = (*words[1:width], " ".join(words[width:])) if named else ()
                yield Table(block[0].line, words[0] if named else "", header, tuple(block))
            block = []


def _plain_row(line: int, text: str) -> Row | None:
    """A seed or an aggregate's name, then nothing but numbers with their units."""
    match = WORDS["plain_row"].match(text) if any(c.isdigit() for c in text) else None
    if not match or not (WORDS["seed_cell"].match(match["label"]) or Row(line, match["label"], ()).aggregate):
        return None
    rest = re.sub(r"[\s,;—-]", "", QUANTITY.sub(" ", match["rest"]))
    cells = tuple(hit[0].strip() for hit in QUANTITY.finditer(match["rest"]))
    return None if rest else Row(line, match["label"], cells)


def _seed_first(table: Table) -> Table:
    """Put seeds first where they label the rows; a table with a column a seed is turned. Means keep their label."""
    if sum(re.fullmatch(r"(?i)seed\W{0,3}\d{1,10}", name.strip()) is not None for name in table.header) > 1:
        turned = (Row(table.line, n, tuple(row.cell(i) for row in table.rows)) for i, n in enumerate(table.header))
        return Table(table.line, "seed", tuple(row.label for row in table.rows), tuple(turned))
    at = next((i for i, name in enumerate(table.header) if re.fullmatch(r"seeds?", name.strip(), re.IGNORECASE)), None)
    if at is None or re.match(r"seed", table.corner, re.IGNORECASE):
        return table
    header, seeds = (*table.header[:at], table.corner, *table.header[at + 1 :]), WORDS["seed_cell"]
    turned = (Row(one.line, one.cell(at), (*one.cells[:at], one.label, *one.cells[at + 1 :])) for one in table.rows)
    rows = tuple(new if seeds.match(new.label) else old for new, old in zip(turned, table.rows, strict=True))
    return Table(table.line, "seed", header, rows)
