"""Lines of `refereed_modes.py`: one evaluation each, kept as JSON, and the table that many of them make."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from tabulate import tabulate

HEAD = ("row", "bpb", "to the first row, mBPB", "pairs", "eval s", "tokens/s", "warm-up s", "isolation")


class TableError(Exception):
    """Lines that make no table; the text says which and why."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model under one row's variables. ``bpb`` and both times are ``None`` when ``error`` says why there is none.

    variables: all that the cell got, those of the base too; fingerprint: of the data; code: digest of the sealed code
    targets: scored tokens; seconds: of the scoring; warmup_s: of the warm-up; missing: layers of isolation not in force
    """

    row: str
    model: str
    variables: dict[str, str]
    track: str
    data: str
    fingerprint: str
    code: str
    machine: str
    targets: int
    bpb: float | None = None
    seconds: float | None = None
    warmup_s: float | None = None
    missing: list[str] = []
    error: str = ""

    @property
    def isolation(self) -> str:
        """What the table says of the layers."""
        return f"missing: {', '.join(self.missing)}" if self.missing else "all layers"


def told(line: Line) -> str:
    """One line of text for people who wait."""
    if line.bpb is None:
        return f"{line.row} | {line.model}: FAILED: {line.error}"
    return (
        f"{line.row} | {line.model}: {line.bpb:.6f} bpb, {line.seconds:.2f} s, {line.targets / line.seconds:,.0f} "
        f"tokens/s, warm-up {line.warmup_s:.1f} s, {line.isolation}"
    )


def append(path: Path, line: Line) -> None:
    """Add a line to a file, whole and at once."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """The lines of all files. Raises ``TableError`` that names the file and the line."""
    found = []
    for path in paths:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise TableError(f"{path}: {error.strerror}.") from None
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                found.append(msgspec.json.decode(line, type=Line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TableError(f"{path}, line {number}: {error}.") from None
    return found


def merge(lines: Sequence[Line]) -> dict[str, dict[str, Line]]:
    """Row -> model -> line, in the order of first appearance; of several that one row and model have, the last counts.

    A failed one never takes the place of a score. Raises ``TableError`` when the lines can't be compared.
    """
    if not lines:
        raise TableError("there is no line to show.")
    for field, meaning in (("track", "tracks"), ("fingerprint", "data sets"), ("targets", "numbers of targets")):
        values = sorted({str(getattr(line, field)) for line in lines})
        if len(values) > 1:
            raise TableError(f"the lines are of different {meaning}: {', '.join(values)}.")
    rows: dict[str, dict[str, Line]] = {}
    for line in lines:
        models = rows.setdefault(line.row, {})
        if any(other.variables != line.variables for other in models.values()):
            raise TableError(f"row {line.row!r} stands for different variables in different lines.")
        if line.bpb is not None or line.model not in models:
            models[line.model] = line
    return rows


def table(lines: Sequence[Line], baseline: str | None = None) -> str:
    """Markdown: a row each, the baseline (default: the row that came first) on top; below it conditions and failures.

    Differences are of pairs: the same model under both rows. Raises ``TableError``.
    """
    rows = merge(lines)
    first = baseline or next(iter(rows))
    if first not in rows:
        raise TableError(f"no row is named {first!r}; there are: {', '.join(rows)}.")
    body = [_row(name, _scored(rows[name]), _scored(rows[first])) for name in sorted(rows, key=lambda n: n != first)]
    right = ("left", *["right"] * 6, "left")
    text = tabulate(body, HEAD, tablefmt="pipe", disable_numparse=True, colalign=right)
    return "\n".join([text, "", _conditions(lines), *_failures(rows)])


def _scored(models: dict[str, Line]) -> dict[str, Line]:
    return {model: line for model, line in models.items() if line.bpb is not None}


def _row(name: str, found: dict[str, Line], first: dict[str, Line]) -> list[str]:
    if not found:
        return [name, "failed", *[""] * 6]
    apart = [1000 * (found[model].bpb - first[model].bpb) for model in found if model in first]
    spread = f" ± {statistics.stdev(apart):.1f}" if len(apart) > 1 and found != first else ""
    seconds = statistics.mean(line.seconds for line in found.values())
    return [
        name,
        f"{statistics.mean(line.bpb for line in found.values()):.4f}",
        f"{statistics.mean(apart):+.1f}{spread}" if apart else "",
        str(len(apart)),
        f"{seconds:.2f}",
        f"{next(iter(found.values())).targets / seconds:,.0f}",
        f"{statistics.mean(line.warmup_s for line in found.values()):.1f}",
        "; ".join(sorted({line.isolation for line in found.values()})),
    ]


def _conditions(lines: Sequence[Line]) -> str:
    one = lines[0]
    machines, codes = (sorted({getattr(line, field) for line in lines}) for field in ("machine", "code"))
    models = len({line.model for line in lines})
    return (
        f"Track {one.track}, data {one.data} ({one.fingerprint[:16]}…), {one.targets:,} targets, models: {models}; "
        f"on {', '.join(machines)}; code {', '.join(code[:12] for code in codes if code)}. "
        "Mean ± sample standard deviation."
    )


def _failures(rows: dict[str, dict[str, Line]]) -> list[str]:
    return [
        f"- FAILED: {line.row}, {line.model}: {_short(line.error)}"
        for models in rows.values()
        for line in models.values()
        if line.bpb is None
    ]


def _short(error: str) -> str:
    """The error without what the cell's log said; the line keeps that."""
    return error.splitlines()[0].partition(" Last lines of ")[0]
