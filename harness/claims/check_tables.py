"""Claims inside tables: rows of means and deviations, difference columns, sums of bytes, nats against bits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import permutations

from harness.claims.claim import LEFT_OUT, Claim, disputed, failed, passed, unknown
from harness.claims.document import Column, Document
from harness.claims.judge import judge_mean, judge_std
from harness.claims.quantity import Quantity, read_one, read_quantities
from harness.claims.tables import Row, Table

DIFFERENCE = re.compile(r"gain|delta|Δ|diff|improvement|change\b|gap", re.IGNORECASE)
_WITH_STD = re.compile(r"(?:±|\+/-|\(?\s*(?:sample |population )?std\.?[\s:=~]*)", re.IGNORECASE)
MAX_WIDTH = 20
"""Columns of a table whose differences are looked for: each pair of columns is tried. Public READMEs have up to 9."""
SAME_TEXT = 3e-4
"""Relative room for bpb / nats: evaluations of one text may leave out a tail shorter than a window."""


def check_tables(document: Document) -> Iterator[Claim]:
    """Everything that the text's tables claim about their own numbers."""
    for table in document.tables:
        columns = [column for column in document.columns if column.table is table]
        for row in table.rows:
            if row.aggregate and columns:
                yield from _aggregate_row(row, columns)
        yield from _difference_columns(table)
        yield from _loss_ratio(table, columns)


def _aggregate_row(row: Row, columns: list[Column]) -> Iterator[Claim]:
    for column in columns:
        cell = row.cells[column.index] if column.index < len(row.cells) else ""
        claimed = read_one(cell)
        if claimed is None:
            continue
        claimed = dataclasses.replace(claimed, kind=claimed.kind or column.kind)
        where = f"{row.label} {cell}"
        yield from _aggregate(row, column, claimed, where)
        extra = _second_number(cell, claimed)
        if extra is not None and row.aggregate == "mean":
            yield judge_std(extra, column.values, row.line, where, f"std of {column.name}", f"{row.label} {cell}")


def _aggregate(row: Row, column: Column, claimed: Quantity, where: str) -> Iterator[Claim]:
    what = f"{row.aggregate} of {column.name}"
    if row.aggregate == "mean":
        yield judge_mean(claimed, column.values, row.line, where, what)
    elif row.aggregate.endswith("std"):
        yield judge_std(claimed, column.values, row.line, where, what, row.label)
    else:
        low, high = min(column.values, key=lambda v: v.value), max(column.values, key=lambda v: v.value)
        spans = {"max": (high.low, high.high), "min": (low.low, low.high)}
        first, last = spans.get(row.aggregate, (high.low - low.high, high.high - low.low))
        if row.label.lower().startswith(("best", "worst")) and column.kind not in ("bpb", "nats", "bytes"):
            return
        right = claimed.like((first + last) / 2)
        if claimed.admits(first, last):
            yield passed(row.line, where, what, f"the seeds give {right}", claimed.text)
        else:
            yield failed(row.line, where, what, f"the seeds give {right}", claimed.text, right)


def _second_number(cell: str, first: Quantity) -> Quantity | None:
    """The deviation in "1.1122 ± 0.0004" or "1.1194 (std 0.0006)"."""
    rest = cell.strip()[first.end :]
    match = _WITH_STD.search(rest)
    found = read_quantities(rest[match.end() :]) if match else []
    return dataclasses.replace(found[0], signed=False, value=abs(found[0].value)) if found else None


def _difference_columns(table: Table) -> Iterator[Claim]:
    """A gain or delta column is the difference of two others in its row: which two, most rows decide."""
    claimed_in = [(index, name) for index, name in enumerate(table.header) if DIFFERENCE.search(name)]
    if not claimed_in or not table.seed_rows:
        return
    if _width(table) > MAX_WIDTH:
        words = f"a table of {_width(table)} columns; differences are looked for in tables of up to {MAX_WIDTH}"
        yield unknown(table.line, words, LEFT_OUT, words)
        return
    for index, name in claimed_in:
        rows = [row for row in table.rows if not row.aggregate.endswith("std") and row.value(index)]
        pair = _difference_pair(table, rows, index)
        if pair is None:
            continue
        for row in rows:
            claimed, low, high = _difference(row, index, *pair)
            if claimed is None:
                continue
            what = f"{name} = {table.name(pair[0])} − {table.name(pair[1])}"
            right = claimed.like((low + high) / 2)
            where = f"{row.label} {claimed.text}"
            if claimed.admits(low, high):
                yield passed(row.line, where, what, f"the row gives {right}", claimed.text)
            else:
                yield failed(row.line, where, what, f"the row gives {right}", claimed.text, right)


def _width(table: Table) -> int:
    return max((len(row.cells) for row in table.rows), default=0)


def _difference_pair(table: Table, rows: list[Row], index: int) -> tuple[int, int] | None:
    best: tuple[int, tuple[int, int]] | None = None
    for a, b in permutations(range(_width(table)), 2):
        if index in (a, b) or not table.kind(a) or table.kind(a) != table.kind(b):
            continue
        found = [_difference(row, index, a, b) for row in rows]
        hits = sum(claimed is not None and claimed.admits(low, high) for claimed, low, high in found)
        total = sum(claimed is not None for claimed, _, _ in found)
        if total > 1 and 3 * hits >= 2 * total and (best is None or hits > best[0]):
            best = hits, (a, b)
    return best[1] if best else None


def _difference(row: Row, index: int, a: int, b: int) -> tuple[Quantity | None, float, float]:
    claimed, first, second = row.value(index), row.value(a), row.value(b)
    if claimed is None or first is None or second is None:
        return None, 0.0, 0.0
    return claimed, first.low - second.high, first.high - second.low


def _loss_ratio(table: Table, columns: list[Column]) -> Iterator[Claim]:
    """One text has one ratio of bpb to nats a token, so a slip of the pen in either shows."""
    losses = [c for c in columns if c.kind == "nats"]
    scores = [c for c in columns if c.kind == "bpb"]
    if len(losses) != 1 or len(scores) != 1:
        return
    ratios = [
        (row, bits.value / nats.value, bits.half / bits.value + nats.half / nats.value)
        for row, bits, nats in zip(table.seed_rows, scores[0].values, losses[0].values, strict=True)
    ]
    middle = sorted(ratio for _, ratio, _ in ratios)[len(ratios) // 2]
    room = max(error for _, _, error in ratios)
    for row, ratio, error in ratios:
        what = f"{scores[0].name} against {losses[0].name}"
        text = f"bpb / nats is {ratio:.6f}; the other seeds' is {middle:.6f}"
        if len(ratios) > 2 and abs(ratio / middle - 1) > error + room + SAME_TEXT:
            yield disputed(row.line, row.label, what, f"{text}: one of the two is mistyped", f"{ratio:.6f}", "")
        else:
            yield passed(row.line, row.label, what, text)
