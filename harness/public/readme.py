"""What a README states in numbers: tables over seeds, means and deviations, tests, sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.public.figures import decimals_of

MAX_LINES = 3_000
MAX_LINE = 1_500
CELL_NUMBER = re.compile(r"([~≈]?)\s*([-−+]?\d[\d,]{0,20}(?:\.\d{1,15})?)")
HEADLINE = re.compile(r"val[\\_ ]{1,3}bpb\W{1,6}(\d\.\d{3,10})", re.IGNORECASE)
OTHER_SCORE = re.compile(r"pre[-_ ]?(?:quant|ttt)|standard|baseline|\bPR\b|\|", re.IGNORECASE)
MEAN_NEAR = re.compile(r"mean[^\n|]{0,40}?[ :=*`(](\d\.\d{3,10})", re.IGNORECASE)
STD_NEAR = re.compile(r"\bstd(?:ev|dev)?\b[ :=~≈*`]{0,6}(0\.\d{2,10})|±\s*(0\.\d{2,10})", re.IGNORECASE)
T_NEAR = re.compile(r"\bt(?:-statistic)?[^\w\-−]{1,5}([-−]?\d+\.\d+)")
P_NEAR = re.compile(r"\bp(?:-value)?\s*(=|<<|<|≈|of)\s*`?\*{0,2}(0\.\d+|\d(?:\.\d+)?e-\d{1,3})")
SUMMARY = re.compile(r"mean|avg|average|std|standard dev|s\.?d\.?(?:\W|$)|σ")
SIZE_NEAR = re.compile(r"[~≈]?\s*(1[0-9]\.\d{1,3})\s?MB\b")


@dataclass(frozen=True)
class Cell:
    """One number of a table: as printed, its decimals, and whether it is marked as rough."""

    text: str
    value: float
    decimals: int
    rough: bool


@dataclass
class SeedTable:
    """A table with a column of seeds. ``rows`` maps seed -> column -> cell; ``summary`` maps "mean", "std" likewise."""

    line: int
    columns: list[str]
    rows: dict[int, dict[int, Cell]] = field(default_factory=dict)
    row_lines: dict[int, int] = field(default_factory=dict)
    summary: dict[str, dict[int, Cell]] = field(default_factory=dict)
    summary_lines: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stated:
    """A number in running text."""

    value: float
    decimals: int
    line: int
    text: str


@dataclass
class Readme:
    """The numbers of a README, with their lines."""

    text: str
    tables: list[SeedTable] = field(default_factory=list)
    headlines: list[Stated] = field(default_factory=list)
    means: list[Stated] = field(default_factory=list)
    stds: list[Stated] = field(default_factory=list)
    t_values: list[Stated] = field(default_factory=list)
    p_values: list[Stated] = field(default_factory=list)
    sizes: list[Stated] = field(default_factory=list)
    scores: list[Stated] = field(default_factory=list)


def read_readme(data: bytes) -> Readme:
    """Read the numbers. Never raises."""
    lines = [line[:MAX_LINE] for line in data.decode("utf-8", "replace").splitlines()[:MAX_LINES]]
    found = Readme("\n".join(lines))
    for number, line in enumerate(lines, 1):
        _take_prose(found, line, number)
    _take_tables(found, lines)
    return found


def _stated(text: str, line: int, context: str) -> Stated:
    plain = text.replace("−", "-")
    return Stated(float(plain), decimals_of(plain), line, context.strip()[:160])


def _take_prose(found: Readme, line: str, number: int) -> None:
    for value in re.findall(r"(?<![\d.])([01]\.\d{4,8})(?!\d)", line)[:20]:
        if len(found.scores) < 400:
            found.scores.append(_stated(value, number, line))
    headline = HEADLINE.search(line)
    if headline and len(found.headlines) < 20 and not OTHER_SCORE.search(line):
        found.headlines.append(_stated(headline[1], number, line))
    for pattern, target in ((MEAN_NEAR, found.means), (T_NEAR, found.t_values)):
        hit = pattern.search(line)
        if hit and len(target) < 20:
            target.append(_stated(hit[1], number, line))
    std = STD_NEAR.search(line)
    if std and len(found.stds) < 20:
        found.stds.append(_stated(std[1] or std[2], number, line))
    p = P_NEAR.search(line)
    if p and p[1] in "=≈of" and len(found.p_values) < 10:
        found.p_values.append(_stated(p[2], number, line))
    if number <= 12 or re.search(r"artifact|submission", line, re.IGNORECASE):
        found.sizes += [
            _stated(size[1], number, line) for size in list(SIZE_NEAR.finditer(line))[:8] if len(found.sizes) < 40
        ]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _take_tables(found: Readme, lines: list[str]) -> None:
    index = 0
    while index < len(lines) - 1:
        header = lines[index]
        if header.lstrip().startswith("|") and re.fullmatch(r"[\s|:-]{3,}", lines[index + 1] or ""):
            columns = [cell.strip("*` ").lower() for cell in _cells(header)]
            at = (
                0
                if columns and columns[0].startswith("seed")
                else next((i for i, name in enumerate(columns) if name == "seed"), -1)
            )
            if at >= 0:
                index = _take_rows(found, lines, index, columns, at)
                continue
        index += 1


def _take_rows(found: Readme, lines: list[str], start: int, columns: list[str], at: int) -> int:
    """The rows below a header whose column ``at`` holds the seeds. Returns the line behind the table."""
    table = SeedTable(start + 1, columns)
    index = start + 2
    while index < len(lines) and lines[index].lstrip().startswith("|"):
        cells = _cells(lines[index])
        numbers = {i: cell for i, text in enumerate(cells) if i and i != at and (cell := _cell(text)) is not None}
        label = cells[0].strip("*` ").lower() if cells else ""
        name = cells[at].strip("*` ").lower() if at < len(cells) else ""
        if re.fullmatch(r"(?:seed )?\d{1,10}", name):
            seed = int(name.split()[-1])
            table.rows[seed], table.row_lines[seed] = numbers, index + 1
        elif SUMMARY.match(label):
            key = "mean" if label.startswith(("mean", "avg", "average")) else "std"
            table.summary.setdefault(key, numbers)
            table.summary_lines.setdefault(key, index + 1)
        index += 1
    if table.rows and len(found.tables) < 20:
        found.tables.append(table)
    return index


def _cell(text: str) -> Cell | None:
    plain = text.replace("*", "").replace("`", "").replace("\\", "").strip()
    hit = CELL_NUMBER.match(plain)
    if hit is None:
        return None
    digits = hit[2].replace(",", "").replace("−", "-")
    rest = plain[hit.end() :].strip().lower()
    rough = bool(hit[1]) or (rest.startswith(("m", "k", "~")) and not rest.startswith(("ms", "mean")))
    return Cell(hit[2], float(digits), decimals_of(digits), rough)
