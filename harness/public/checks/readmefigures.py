"""The README's tables over seeds, headline and sizes against the logs (A9)."""

from __future__ import annotations

import re
from statistics import fmean

from harness.public.figures import agrees
from harness.public.readme import Cell, SeedTable, Stated
from harness.public.record import Record
from harness.public.runlog import RunLog

OTHER_RECORD = re.compile(r"PR\W{0,2}#?\d|#\d{2,}|/pull/|\bSOTA\b|baseline|previous", re.IGNORECASE)
"""A line that compares with another record: its figures need not be this folder's."""


def check(record: Record) -> None:
    """All of the above."""
    if record.readme is None:
        return
    for table in record.readme.tables:
        _table(record, table)
    _headline(record)
    _sizes(record)


def _table(record: Record, table: SeedTable) -> None:
    by_seed = {log.seed: log for log in record.logs if log.seed is not None}
    for seed, cells in table.rows.items():
        log = by_seed.get(seed)
        for column, cell in cells.items():
            header = table.columns[column] if column < len(table.columns) else ""
            problem = _cell_problem(log, header, cell) if log and not cell.rough else None
            if problem is not None and log is not None:
                record.out.warn(
                    "A9-README-MATCH",
                    f"seed {seed}, column {header[:40]!r}: the figure is not in the log.",
                    file=record.readme_file,
                    line=table.row_lines[seed],
                    found=cell.text,
                    computed=f"{problem} in {log.file}",
                    remedy="Write the table from the logs by script.",
                )
    _summary(record, table)


def _cell_problem(log: RunLog, header: str, cell: Cell) -> str | None:
    plain = re.sub(r"\W+", " ", header)
    if re.search(r"\b(?:gain|delta|diff|gap|vs)\b", plain):
        return None
    if (
        re.search(r"\b(?:bpb|sliding|loss|nats)\b", plain.replace("val_bpb", "bpb").replace("val_loss", "loss"))
        and cell.decimals >= 3
    ):
        known = [s.bpb for s in log.passes + log.curve] + [s.loss for s in log.passes + log.curve if s.loss]
        if "bpb" in plain:
            known = [score.bpb for score in log.passes + log.curve]
        near = min(known, key=lambda x: abs(x - cell.value), default=None)
        if near is not None and not any(agrees(cell.value, cell.decimals, x) for x in known):
            return f"nearest {near:g}"
    elif re.fullmatch(r"steps?(?: completed)?", plain.strip()) and cell.decimals == 0 and log.last_step:
        if int(cell.value) != log.last_step:
            return f"{log.last_step:,}"
    elif re.search(r"artifact|total|submission", plain) and cell.value > 1e6 and log.total:
        if int(cell.value) not in {int(item.value) for item in log.totals}:
            return f"{int(log.total.value):,}"
    elif (
        re.fullmatch(r"train (?:ms|time ms)", plain.strip())
        and log.stop
        and abs(cell.value - log.stop.value * 1000) > 10
    ):
        return f"{log.stop.value * 1000:,.0f} ms"
    return None


def _summary(record: Record, table: SeedTable) -> None:
    mean = table.summary.get("mean", {})
    for column, cell in mean.items():
        values = [row[column] for row in table.rows.values() if column in row]
        header = table.columns[column] if column < len(table.columns) else ""
        if len(values) != len(table.rows) or len(values) < 2 or any(v.rough for v in values) or cell.rough:
            continue
        computed = fmean(v.value for v in values)
        coarse = max(10.0 ** -min(v.decimals for v in [*values, cell]), 10.0**-cell.decimals)
        if abs(computed - cell.value) > 1.02 * coarse:
            record.out.warn(
                "A8-MEAN",
                f"column {header[:40]!r}: the mean is not the mean of its rows.",
                file=record.readme_file,
                line=table.summary_lines["mean"],
                found=cell.text,
                computed=f"{computed:.{max(cell.decimals, 1)}f}",
            )


def _headline(record: Record) -> None:
    readme, meta = record.readme, record.metadata
    claimed = meta.number("val_bpb") if meta else None
    if readme is None or not readme.headlines or meta is None or claimed is None:
        return
    for stated in readme.headlines:
        if agrees(stated.value, stated.decimals, claimed, claimed.decimals):
            message = "README and JSON claim the same score."
            record.out.passed("A9-README-MATCH", message, file=record.readme_file, line=stated.line)
            return
    stated = readme.headlines[0]
    logged = [s.bpb for log in record.logs for s in log.passes]
    known = any(agrees(stated.value, stated.decimals, value) for value in logged)
    record.out.warn(
        "A9-README-MATCH",
        "README and JSON state different scores" + ("; the README's stands in a log." if known else "."),
        file=record.readme_file,
        line=stated.line,
        found=f"{stated.value:g}",
        computed=f"{claimed:g} in {record.json_file}",
    )


def _is_size(stated: Stated, value: float) -> bool:
    return abs(value / 1e6 - stated.value) <= 1.02 * 10.0**-stated.decimals


def _sizes(record: Record) -> None:
    assert record.readme is not None
    totals = [log.total.value for log in record.logs if log.total]
    if not totals:
        return
    logged = {log.seed for log in record.logs}
    elsewhere = {line for table in record.readme.tables for seed, line in table.row_lines.items() if seed not in logged}
    figures = {"smallest": min(totals), "mean": fmean(totals), "largest": max(totals)}
    models = [item.value for log in record.logs for item in log.models if item.label]
    known = [*totals, *figures.values(), *models]
    fitting = {s.line for s in record.readme.sizes if any(_is_size(s, value) for value in known)}
    for stated in record.readme.sizes[:20]:
        if stated.line in fitting | elsewhere or OTHER_RECORD.search(stated.text):
            continue
        unit, half = 1e6, 1.02 * 10.0**-stated.decimals
        binary = any(abs(value / 2**20 - stated.value) <= half for value in [*totals, *models])
        record.out.warn(
            "A9-README-MATCH",
            "a size in binary megabytes (MiB) is called MB; the cap is decimal."
            if binary
            else "a size that no log gives.",
            file=record.readme_file,
            line=stated.line,
            found=f"{stated.value:g} MB",
            computed=", ".join(f"{name} {value / unit:.3f} MB" for name, value in figures.items()),
        )
