"""Frequency tables: counts → one byte a symbol → frequencies that sum to 2^14, by integers alone (ARTIFACT.md)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .coder import PRECISION, TOTAL, CoderError, Ints

_COUNT, _ENTRY = struct.Struct("<H"), struct.Struct("<BBhH")
_EIGHTHS = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)  # round(2^16 · 2^(i/8))
MAX_LEVEL = 8 * PRECISION + 1
MAX_SYMBOL = 4096
MAX_CELLS = 1 << 22  # tables · alphabet: what a file's few bytes can make a reader allocate

Key = tuple[int, int]


@dataclass(frozen=True)
class Tables:
    """row: table of each (group, class); offset: symbol value of column 0; frequencies: (tables, alphabet)."""

    row: dict[Key, int]
    offset: int
    frequencies: Ints


def pack_tables(counts: Mapping[Key, tuple[int, Ints]]) -> bytes:
    """Tables from (first symbol, counts of the symbols from it on) by (group, class)."""
    head, levels = [_COUNT.pack(len(counts))], []
    for (group, kind), (first, table) in sorted(counts.items()):
        share = np.maximum(table, 1) / table.sum()
        level = np.clip(np.rint(8 * np.log2(share * TOTAL)).astype(int) + 1, 1, MAX_LEVEL)
        head.append(_ENTRY.pack(group, kind, first, len(table)))
        levels.append(np.where(table > 0, level, 0).astype(np.uint8).tobytes())
    return b"".join(head + levels)


def read_tables(data: bytes, groups: int, classes: int) -> Tables:
    """Parse and normalise tables of groups and classes under those numbers. Raises ``CoderError``.

    Two tables of one symbol each can ask for thousands of columns, so all sizes are checked before they are allocated.
    """
    (count,) = _COUNT.unpack_from(data) if len(data) >= 2 else (0,)
    if count > groups * classes:
        raise CoderError(f"{count:,} frequency tables; the format has {groups * classes:,} contexts.")
    at = _COUNT.size + count * _ENTRY.size
    if not count or len(data) < at:
        raise CoderError("the frequency tables are cut short.")
    entries = [_ENTRY.unpack_from(data, _COUNT.size + i * _ENTRY.size) for i in range(count)]
    if at + sum(length for *_, length in entries) != len(data):
        raise CoderError("the frequency tables' sizes do not add up.")
    if len({(group, kind) for group, kind, *_ in entries}) != count:
        raise CoderError("a frequency table stands twice.")
    if any(group >= groups or kind >= classes for group, kind, *_ in entries):
        raise CoderError("a frequency table is of no context that the format has.")
    if any(length == 0 or first < -MAX_SYMBOL or first + length > MAX_SYMBOL for *_, first, length in entries):
        raise CoderError("a frequency table leaves the range of symbols.")
    offset = min(first for *_, first, _ in entries)
    alphabet = max(first + length for *_, first, length in entries) - offset
    if count * alphabet > MAX_CELLS:
        raise CoderError(f"{count:,} frequency tables over {alphabet:,} symbols are more than an encoder writes.")
    frequencies = np.zeros((count, alphabet), np.int64)
    row: dict[Key, int] = {}
    for index, (group, kind, first, length) in enumerate(entries):
        levels = np.frombuffer(data, np.uint8, length, at).astype(np.int64)
        frequencies[index, first - offset : first - offset + length] = _normalise(levels)
        row[group, kind] = index
        at += length
    return Tables(row, offset, frequencies)


def _normalise(levels: Ints) -> Ints:
    """Frequencies ≥ 1 for every level ≥ 1, in total 2^14; the most frequent symbols take what rounding leaves."""
    used = int((levels > 0).sum())
    if not 0 < used <= TOTAL // 4 or int(levels.max()) > MAX_LEVEL:
        raise CoderError("a frequency table is out of range.")
    step = np.maximum(levels - 1, 0)
    weight = np.where(levels > 0, np.array(_EIGHTHS)[step % 8] << (step // 8), 0)
    frequencies = np.where(levels > 0, np.maximum(weight * (TOTAL - used) // int(weight.sum()), 0) + 1, 0)
    frequencies[int(frequencies.argmax())] += TOTAL - int(frequencies.sum())
    return frequencies
