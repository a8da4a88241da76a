"""A README or pull request text: its lines without decoration, its tables, its columns of seeds. For both commands.

Markdown is taken apart by markdown-it; tables that were pasted without Markdown, and lists of one line a seed, are read
as tables too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.review.number import QUANTITY, Number, Range, mean_of, read_numbers, read_one, std_of

MAX_CHARACTERS, MAX_LINES, MAX_LINE, MAX_NUMBERS, MAX_COLUMNS = 200_000, 10_000, 4_000, 3_000, 60
"""What is read of one text: characters, lines, characters of a line, numbers, columns of seeds.

The work grows with the square of the numbers. The longest of 61 public READMEs has 12,000 characters, 246 numbers and
14 columns. What lies beyond is named, see :attr:`Document.left_out`.
"""
OTHERS = re.compile(
    r"(?:\b(?:PRs?|SOTA|baseline|leader(?:board)?|previous|prior|(?<!non-)record(?!:)|current|versus|vs\.?|merged|base|"
    r"original|upstream|predecessor|against|from|over)\b|#\d+)",
    re.IGNORECASE,
)
AGGREGATES = {
    **dict.fromkeys(("mean", "avg", "avg.", "average"), "mean"),
    **dict.fromkeys(("std", "std.", "stdev", "std dev", "stddev", "standard deviation", "sd", "σ"), "std"),
    "sample std": "sample std",
    "population std": "population std",
    **dict.fromkeys(("max", "maximum", "worst"), "max"),
    **dict.fromkeys(("min", "minimum", "best"), "min"),
    "range": "range",
}
_AGGREGATE = re.compile(
    r"^(?:\d+[- ]seed )?(" + "|".join(re.escape(w) for w in sorted(AGGREGATES, key=len, reverse=True)) + r")\b(.*)$",
    re.IGNORECASE,
)
_BEHIND_AGGREGATE = re.compile(r"^\s*(?:[(±+/&]|over\b|of\b|across\b|$)")
_SEED = re.compile(r"^(?:seed\s*[=:#]?\s*)?(\d{1,10})(?:\s*\([^)]*\))?$", re.IGNORECASE)
_PLAIN_ROW = re.compile(r"^\s*(?P<label>(?:seed\s+)?\d{1,10}|[A-Za-z]+\.?(?: [A-Za-z]+)?)\s+(?P<rest>\S.*)$")
_SEED_LINE = re.compile(r"\bseed[\s_=:`*]*(\d{1,10})\b", re.IGNORECASE)
_PAIR = re.compile(r"(?P<name>[A-Za-z][\w.-]*)[`*]*\s*[:=]\s*[`*]*(?P<value>[-+]?[\d.,]+)")
_KINDS: tuple[tuple[str, str], ...] = (
    (r"\bbpb\b|val_bpb", "bpb"),
    (r"ms/step|step_avg|\bms\b|time|\(s\)|seconds", "seconds"),
    (r"loss|nats", "nats"),
    (r"byte|artifact|\bsize|submission|total", "bytes"),
    (r"step|token|param|count|chunk", "count"),
)
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
        match = _SEED.match(self.label)
        return int(match[1]) if match else None

    @cached_property
    def aggregate(self) -> str:
        """ "mean", "std", … or ""."""
        match = _AGGREGATE.match(self.label)
        return AGGREGATES[match[1].lower()] if match and _BEHIND_AGGREGATE.match(match[2]) else ""

    def cell(self, column: int) -> str:
        """The text of a cell; empty beyond the last."""
        return self.cells[column] if column < len(self.cells) else ""

    def value(self, column: int) -> Number | None:
        """The number that the cell begins with."""
        return self._values[column] if column < len(self.cells) else None

    @cached_property
    def _values(self) -> tuple[Number | None, ...]:
        return tuple(read_one(cell) for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table: its header (without the first cell, which is ``corner``) and its rows."""

    line: int
    corner: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def seed_rows(self) -> tuple[Row, ...]:
        """Rows that are about one seed each; empty unless the table says that it is about seeds or runs."""
        rows = tuple(row for row in self.rows if row.seed is not None and not row.aggregate)
        about = re.search(r"\b(seed|run|trial)s?\b", self.corner, re.IGNORECASE)
        return rows if about or any(row.aggregate for row in self.rows) else ()

    @cached_property
    def width(self) -> int:
        """Columns behind the first."""
        return max((len(row.cells) for row in self.rows), default=0)

    def name(self, column: int) -> str:
        """The column's header, or its place."""
        name = self.header[column].strip() if column < len(self.header) else ""
        return name or f"column {column + 2}"

    def values(self, column: int) -> list[Number]:
        """The seeds' numbers in one column, exact where the column counts something; empty if one is missing."""
        found = [value for row in self.seed_rows if (value := row.value(column)) is not None]
        return [_typed(value, self.kind(column)) for value in found] if len(found) == len(self.seed_rows) else []

    def kind(self, column: int) -> str:
        """What the column holds: bpb, nats, bytes, seconds, count, or ""."""
        if column not in self._kinds:
            self._kinds[column] = self._find_kind(column)
        return self._kinds[column]

    @cached_property
    def _kinds(self) -> dict[int, str]:
        return {}

    def _find_kind(self, column: int) -> str:
        name = self.name(column).lower()
        values = [value for row in self.seed_rows if (value := row.value(column)) is not None]
        units = {value.kind for value in values} - {""}
        if len(units) == 1 and units != {"percent"}:
            return units.pop()
        for pattern, kind in _KINDS:
            if re.search(pattern, name) and (kind != "bytes" or all(value.value > 1e4 for value in values)):
                return kind
        return "bpb" if values and all(value.step < 1e-2 and 0.3 < value.value < 10 for value in values) else ""


def _typed(value: Number, kind: str) -> Number:
    exact = value.whole and (kind in ("bytes", "count") or "," in value.text)
    return dataclasses.replace(value, half=0.0 if exact else value.half, kind=value.kind or kind)


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

    @cached_property
    def sample_std(self) -> Range:
        """The sample deviation over the seeds."""
        return std_of(self.values, sample=True)

    @cached_property
    def population_std(self) -> Range:
        """The population deviation over the seeds."""
        return std_of(self.values, sample=False)

    def end(self, *, lowest: bool) -> Number:
        """The smallest or the largest of its numbers."""
        return (min if lowest else max)(self.values, key=lambda value: value.value)


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
        self.in_tables = {row.line for table in tables for row in table.rows} | {table.line for table in tables}
        lines = [self.text.get(number, "") for number in range(1, len(self.raw) + 1)]
        pasted = list(_plain_tables(lines))
        self.in_tables |= {row.line for table in pasted for row in table.rows} | {table.line for table in pasted}
        tables += [*pasted, *_seed_lists(lines, self.in_tables)]
        self.tables = sorted((_upright(_seed_first(table)) for table in tables), key=lambda table: table.line)
        columns = [column for table in self.tables for column in _columns(table)]
        self.columns = columns[:MAX_COLUMNS]
        if len(columns) > MAX_COLUMNS:
            words = (
                f"the text has {len(columns)} columns of seeds; those after the first {MAX_COLUMNS} are not compared"
            )
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
    def every_line(self) -> list[Line]:
        """All lines that hold a number, rows of tables too."""
        rows = {row.line: " | ".join((row.label, *row.cells)) for table in self.tables for row in table.rows}
        texts = sorted((rows | self.text).items())
        return [
            Line(number, text, tuple(read_numbers(text)), number in self.headings)
            for number, text in texts
            if any(c.isdigit() for c in text)
        ]

    @cached_property
    def lines(self) -> list[Line]:
        """The same without tables."""
        return [line for line in self.every_line if line.number not in self.in_tables]

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
    def values_by_seed(self) -> dict[int, list[tuple[Column, Number]]]:
        """Seed -> what the columns of seeds say of it."""
        found: dict[int, list[tuple[Column, Number]]] = {}
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


def _inline(token: Token) -> list[str]:
    """The lines of an inline token without decoration."""
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "html_inline":
            parts.append("^" if child.content.lower() == "<sup>" else "")
        else:
            parts.append(child.content)
    return "".join(parts).split("\n")


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
        numbers += len(re.findall(r"\d[\d.,]*", line[:MAX_LINE]))
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


def quote(text: str, number: Number | None = None, width: int = 70) -> str:
    """A few words of ``text`` around ``number``."""
    text = " ".join(text.split()) if number is None else text
    if number is None or len(text) <= width:
        return text if len(text) <= width else text[: width - 1] + "…"
    start = max(0, number.start - width // 2)
    return ("…" if start else "") + text[start : start + width].strip() + ("…" if start + width < len(text) else "")


def _plain_tables(lines: Sequence[str]) -> Iterator[Table]:
    """Rows such as "1337 1.1389 1.1441 15,930,191 B", which remain when a web page is pasted."""
    rows = [_plain_row(number, line) for number, line in enumerate(lines, 1)]
    block: list[Row] = []
    for at, row in enumerate([*rows, None]):
        if row is not None:
            block.append(row)
        elif not (block and at < len(lines) - 1 and not lines[at].strip() and rows[at + 1] is not None):
            if sum(entry.seed is not None for entry in block) > 1:
                yield _plain_table(lines, block)
            block = []


def _plain_row(line: int, text: str) -> Row | None:
    """A seed or an aggregate's name, then nothing but numbers with their units."""
    if not any(c.isdigit() for c in text):
        return None
    parts = [part.strip() for part in re.split(r"\t|\s{2,}", text.strip())]
    named = len(parts) > 1 and (_SEED.match(parts[0]) or Row(line, parts[0], ()).aggregate)
    if named and any(read_one(cell) for cell in parts[1:]):
        return Row(line, parts[0], tuple(_split_cells(parts[1:])))
    match = _PLAIN_ROW.match(text)
    if not match or not (_SEED.match(match["label"]) or Row(line, match["label"], ()).aggregate):
        return None
    cells = _split_cells([match["rest"]])
    return Row(line, match["label"], tuple(cells)) if cells and all(read_one(cell) for cell in cells) else None


def _split_cells(parts: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for part in parts:
        found = list(QUANTITY.finditer(part))
        whole = len(found) < 2 or re.sub(r"[\s,;—-]", "", QUANTITY.sub(" ", part))
        cells += [part] if whole else [match[0].strip() for match in found]
    return cells


def _plain_table(lines: Sequence[str], block: list[Row]) -> Table:
    width = max(len(row.cells) for row in block if row.seed is not None)
    above = block[0].line - 2
    while above > 0 and not lines[above].strip():
        above -= 1
    words = lines[above].strip() if above >= 0 else ""
    names = [name for name in re.split(r"\t|\s{2,}", words) if name]
    if len(names) != width + 1:
        names = words.split()
    corner, rest = (names[0], names[1:]) if names and re.match(r"(?i)seed|run", names[0]) else ("", [])
    header = (*rest[: width - 1], " ".join(rest[width - 1 :])) if len(rest) >= width else tuple(rest)
    table = Table(block[0].line, corner, header, tuple(block))
    return dataclasses.replace(table, rows=tuple(_aligned(row, table, width) for row in block))


def _aligned(row: Row, table: Table, width: int) -> Row:
    """Put the cells of a short mean row under the columns whose values they are like."""
    if row.aggregate not in ("mean", "max", "min") or len(row.cells) >= width:
        return row
    cells, at = [""] * width, 0
    for cell in row.cells:
        value = read_one(cell)
        while value and at < width:
            seeds = [found.value for other in table.seed_rows if (found := other.value(at))]
            at += 1
            if seeds and min(seeds) * 0.9 <= value.value <= max(seeds) * 1.1:
                cells[at - 1] = cell
                break
    return Row(row.line, row.label, tuple(cells))


def _seed_lists(lines: Sequence[str], used: set[int]) -> Iterator[Table]:
    """Lists such as "- SEED=1337: val_loss=2.0595, val_bpb=1.2197": one line a seed, the same names in each."""
    block: list[tuple[int, str, dict[str, str]]] = []
    for number, line in enumerate([*lines, ""], 1):
        match = None if number in used else _SEED_LINE.search(line)
        rest = line[match.end() :] if match else ""
        pairs = {pair["name"].lower(): pair["value"].rstrip(".,") for pair in _PAIR.finditer(rest)}
        if match and pairs:
            block.append((number, match[1], pairs))
            continue
        if len(block) > 1 and len({seed for _, seed, _ in block}) == len(block):
            names = [name for name in block[0][2] if all(name in pairs for _, _, pairs in block)]
            rows = tuple(Row(at, seed, tuple(pairs[name] for name in names)) for at, seed, pairs in block)
            if names:
                yield Table(block[0][0], "seed", tuple(names), rows)
        block = []


def _seed_first(table: Table) -> Table:
    """Put a column called "seed" first, where it labels the rows; rows of means keep their label."""
    at = next((i for i, name in enumerate(table.header) if re.fullmatch(r"seeds?", name.strip(), re.IGNORECASE)), None)
    if at is None or re.match(r"seed", table.corner, re.IGNORECASE):
        return table

    def turned(row: Row) -> Row:
        seed = row.cell(at)
        return (
            Row(row.line, seed, (*row.cells[:at], row.label, *row.cells[at + 1 :]))
            if seed and _SEED.match(seed)
            else row
        )

    header = (*table.header[:at], table.corner, *table.header[at + 1 :])
    return Table(table.line, "seed", header, tuple(turned(row) for row in table.rows))


def _upright(table: Table) -> Table:
    """Turn a table whose columns are seeds into one whose rows are."""
    columns = [Row(table.line, name, ()) for name in table.header]
    if sum(column.seed is not None for column in columns) < 2 or not any(column.aggregate for column in columns):
        return table
    line = table.rows[0].line if table.rows else table.line
    rows = [Row(line, name, tuple(row.cell(i) for row in table.rows)) for i, name in enumerate(table.header)]
    return Table(table.line, "seed", tuple(row.label for row in table.rows), tuple(rows))
