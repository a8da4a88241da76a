"""Tables in a text: Markdown, tab-separated, and the plain rows that remain when a web page is pasted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.claims.quantity import QUANTITY, Quantity, read_one

AGGREGATES = {
    "mean": "mean",
    "avg": "mean",
    "avg.": "mean",
    "average": "mean",
    "std": "std",
    "std.": "std",
    "stdev": "std",
    "std dev": "std",
    "stddev": "std",
    "standard deviation": "std",
    "sd": "std",
    "σ": "std",
    "sample std": "sample std",
    "population std": "population std",
    "max": "max",
    "maximum": "max",
    "min": "min",
    "minimum": "min",
    "worst": "max",
    "best": "min",
    "range": "range",
}
_AGGREGATE = re.compile(
    r"^(?:\d+[- ]seed )?(" + "|".join(re.escape(w) for w in sorted(AGGREGATES, key=len, reverse=True)) + r")\b(.*)$",
    re.IGNORECASE,
)
_SEED = re.compile(r"^(?:seed\s*[=:#]?\s*)?(\d{1,10})(?:\s*\([^)]*\))?$", re.IGNORECASE)
_PLAIN_ROW = re.compile(r"^\s*(?P<label>(?:seed\s+)?\d{1,10}|[A-Za-z]+\.?(?: [A-Za-z]+)?)\s+(?P<rest>\S.*)$")


@dataclass(frozen=True)
class Row:
    """One row: its line in the text, its first cell, and the other cells (text)."""

    line: int
    label: str
    cells: tuple[str, ...]

    @property
    def seed(self) -> int | None:
        """The seed it is about."""
        match = _SEED.match(self.label)
        return int(match[1]) if match else None

    @property
    def aggregate(self) -> str:
        """ "mean", "std", … or ""."""
        match = _AGGREGATE.match(self.label)
        if not match or (match[2].strip() and not re.match(r"^\s*(?:[(±+/&]|over\b|of\b|across\b)", match[2])):
            return ""
        return AGGREGATES[match[1].lower()]

    def value(self, column: int) -> Quantity | None:
        """The number that the cell begins with."""
        return self._values[column] if column < len(self.cells) else None

    @cached_property
    def _values(self) -> tuple[Quantity | None, ...]:
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

    def name(self, column: int) -> str:
        """The column's header, or its place."""
        name = self.header[column].strip() if column < len(self.header) else ""
        return name or f"column {column + 2}"

    def values(self, column: int) -> list[Quantity]:
        """The seeds' numbers in one column, exact where the column counts something; empty if one is missing."""
        found = [row.value(column) for row in self.seed_rows]
        if not found or any(value is None for value in found):
            return []
        kind = self.kind(column)
        return [_typed(value, kind) for value in found if value is not None]

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
        if re.search(r"\bbpb\b|val_bpb", name):
            return "bpb"
        if re.search(r"ms/step|step_avg|\bms\b|time|\(s\)|seconds", name):
            return "seconds"
        if re.search(r"loss|nats", name):
            return "nats"
        if re.search(r"byte|artifact|\bsize|submission|total", name) and all(value.value > 1e4 for value in values):
            return "bytes"
        if re.search(r"step|token|param|count|chunk", name):
            return "count"
        if values and all(value.step < 1e-2 and 0.3 < value.value < 10 for value in values):
            return "bpb"
        return ""


def _typed(value: Quantity, kind: str) -> Quantity:
    exact = value.whole and (kind in ("bytes", "count") or "," in value.text)
    return dataclasses.replace(value, half=0.0 if exact else value.half, kind=value.kind or kind)


def plain(cell: str) -> str:
    """A cell or line without Markdown decoration: emphasis, code marks, links, escapes."""
    cell = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)
    cell = re.sub(r"\\([_*~\[\]().#-])", r"\1", cell)
    return re.sub(r"\*\*|__|`|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)", "", cell).strip()


def read_tables(lines: Sequence[str]) -> list[Table]:
    """Every table of a text, in order. Fenced code is not read, apart from plain seed rows in it."""
    tables: list[Table] = []
    used: set[int] = set()
    for start, block in _markdown_blocks(lines):
        tables += _markdown_table(start, block)
        used |= set(range(start, start + len(block)))
    tables += [table for table in _plain_tables(lines, used) if table.rows]
    tables += _seed_lists(lines, used)
    return sorted((_upright(_seed_first(table)) for table in tables), key=lambda table: table.line)


def _markdown_blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    block: list[str] = []
    for number, line in enumerate([*lines, ""]):
        if line.strip().startswith("|") and line.count("|") > 1:
            block.append(line)
            continue
        if block:
            yield number - len(block), block
        block = []


def _markdown_table(start: int, block: list[str]) -> list[Table]:
    rows = [[plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in block]
    rules = [i for i, row in enumerate(rows) if all(re.fullmatch(r":?-+:?", cell.replace(" ", "")) for cell in row)]
    if not rules or rules[0] != 1:
        return []
    body = [
        Row(start + i + 1, row[0], tuple(row[1:])) for i, row in enumerate(rows) if i > 1 and i not in rules and row
    ]
    return [Table(start + 1, rows[0][0], tuple(rows[0][1:]), tuple(body))]


def _plain_tables(lines: Sequence[str], used: set[int]) -> Iterator[Table]:
    block: list[Row] = []
    for number, line in enumerate([*lines, ""]):
        row = None if number in used else _plain_row(number + 1, line)
        if row:
            block.append(row)
            continue
        if not line.strip() and block and number < len(lines):
            following = next((text for text in lines[number + 1 : number + 2]), "")
            if _plain_row(number + 2, following):
                continue
        if sum(entry.seed is not None for entry in block) > 1:
            yield _plain_table(lines, block)
        block = []


def _plain_row(line: int, text: str) -> Row | None:
    """ "1337 1.1389 1.1441 15,930,191 B": a seed or an aggregate's name, then nothing but numbers with their units."""
    parts = [plain(part) for part in re.split(r"\t|\s{2,}", text.strip())]
    if len(parts) > 1 and (_SEED.match(parts[0]) or Row(line, parts[0], ()).aggregate):
        cells = parts[1:]
        if any(read_one(cell) for cell in cells):
            return Row(line, parts[0], tuple(_split_cells(cells)))
    match = _PLAIN_ROW.match(plain(text))
    if not match or not (_SEED.match(match["label"]) or Row(line, match["label"], ()).aggregate):
        return None
    cells = _split_cells([match["rest"]])
    return Row(line, match["label"], tuple(cells)) if cells and all(read_one(cell) for cell in cells) else None


def _split_cells(parts: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for part in parts:
        found = list(QUANTITY.finditer(part))
        rest = QUANTITY.sub(" ", part)
        if len(found) > 1 and not re.sub(r"[\s,;—-]", "", rest):
            cells += [match[0].strip() for match in found]
        else:
            cells.append(part)
    return cells


def _plain_table(lines: Sequence[str], block: list[Row]) -> Table:
    width = max(len(row.cells) for row in block if row.seed is not None)
    above = block[0].line - 2
    while above > 0 and not lines[above].strip():
        above -= 1
    words = plain(lines[above]) if above >= 0 else ""
    names = [name for name in re.split(r"\t|\s{2,}", words) if name]
    if len(names) != width + 1:
        names = words.split()
    corner, rest = (names[0], names[1:]) if names and re.match(r"(?i)seed|run", names[0]) else ("", [])
    header = (*rest[: width - 1], " ".join(rest[width - 1 :])) if len(rest) >= width else tuple(rest)
    table = Table(block[0].line, corner, header, tuple(block))
    return Table(table.line, corner, header, tuple(_aligned(row, table, width) for row in block))


def _aligned(row: Row, table: Table, width: int) -> Row:
    """Put the cells of a short mean row under the columns whose values they are like."""
    if row.aggregate not in ("mean", "max", "min") or len(row.cells) >= width:
        return row
    cells = [""] * width
    at = 0
    for cell in row.cells:
        value = read_one(cell)
        while value and at < width:
            seeds = [found.value for other in table.seed_rows if (found := other.value(at))]
            at += 1
            if seeds and min(seeds) * 0.9 <= value.value <= max(seeds) * 1.1:
                cells[at - 1] = cell
                break
    return Row(row.line, row.label, tuple(cells))


_SEED_LINE = re.compile(r"\bseed[\s_=:`*]*(\d{1,10})\b", re.IGNORECASE)
_PAIR = re.compile(r"(?P<name>[A-Za-z][\w.-]*)[`*]*\s*[:=]\s*[`*]*(?P<value>[-+]?[\d.,]+)")


def _seed_lists(lines: Sequence[str], used: set[int]) -> Iterator[Table]:
    """Lists such as "- SEED=1337: val_loss=2.0595, val_bpb=1.2197": one line a seed, the same names in each."""
    block: list[tuple[int, str, dict[str, str]]] = []
    for number, line in enumerate([*lines, ""]):
        match = None if number in used else _SEED_LINE.search(line)
        pairs = (
            {p["name"].lower(): p["value"].rstrip(".,") for p in _PAIR.finditer(line[match.end() :])} if match else {}
        )
        if match and pairs:
            block.append((number + 1, match[1], pairs))
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
    rows = []
    for row in table.rows:
        seed = _cell(row, at)
        if not _SEED.match(seed):
            rows.append(row)
            continue
        cells = list(row.cells)
        cells[at] = row.label
        rows.append(Row(row.line, seed, tuple(cells)))
    header = list(table.header)
    header[at] = table.corner
    return Table(table.line, "seed", tuple(header), tuple(rows))


def _upright(table: Table) -> Table:
    """Turn a table whose columns are seeds into one whose rows are."""
    columns = [Row(table.line, name, ()) for name in table.header]
    if sum(column.seed is not None for column in columns) < 2 or not any(column.aggregate for column in columns):
        return table
    rows = tuple(
        Row(table.rows[0].line if table.rows else table.line, name, tuple(_cell(row, i) for row in table.rows))
        for i, name in enumerate(table.header)
    )
    return Table(table.line, "seed", tuple(row.label for row in table.rows), rows)


def _cell(row: Row, column: int) -> str:
    return row.cells[column] if column < len(row.cells) else ""
