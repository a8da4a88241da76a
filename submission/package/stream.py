"""Integers ↔ coded sections, side information first (ARTIFACT.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .coder import CoderError, Ints, decode, encode
from .contexts import HIGHEST, LOWEST, ROLES, clamp_rare, predicted, raw_bits
from .tables import Key, Tables, pack_tables, read_tables

Sections = dict[str, bytes]
SIDE_KINDS = 4  # classes and steps, of rows and of columns
_SIDE, _CODES = (SIDE_KINDS * len(ROLES), 1), (len(ROLES), HIGHEST - LOWEST + 1)  # groups and classes of the tables


def pack_arrays(arrays: Sequence[tuple[int, Tensor]]) -> tuple[bytes, bytes]:
    """Tables and stream of small integer arrays, each under one distribution a group (under SIDE_KINDS · roles)."""
    groups = np.concatenate([np.full(a.numel(), group) for group, a in arrays])
    values = np.concatenate([a.numpy().astype(np.int64).ravel() for _, a in arrays])
    return _pack(values, groups, np.zeros_like(groups), _SIDE)


def read_arrays(tables: bytes, stream: bytes, wanted: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Arrays of (group, length) as ``pack_arrays`` packed them. Raises ``CoderError``."""
    groups = np.concatenate([np.full(length, group) for group, length in wanted])
    values = _read(read_tables(tables, *_SIDE), stream, groups, np.zeros_like(groups))
    ends = np.cumsum([length for _, length in wanted])[:-1]
    return [torch.from_numpy(part.copy()) for part in np.split(values, ends)]


def pack_codes(codes: Sequence[Tensor], sides: Sequence[tuple[Tensor, Tensor]], groups: Sequence[Tensor]) -> Sections:
    """Sections of integer matrices (R, C), given their side classes and the group of each row."""
    classes, group = _contexts(sides, groups)
    values = torch.cat([c.flatten() for c in codes]).long()
    classes = clamp_rare(classes, group)
    shift = raw_bits(classes)
    tables, stream = _pack((values >> shift).numpy(), group.numpy(), classes.numpy(), _CODES)
    low = values & ((1 << shift) - 1)
    return {"tables": tables, "codes": stream, "raw": _pack_low(low.numpy(), shift.numpy())}


def read_codes(
    sections: Mapping[str, bytes],
    shapes: Sequence[torch.Size],
    sides: Sequence[tuple[Tensor, Tensor]],
    groups: Sequence[Tensor],
) -> list[Tensor]:
    """The integers, int16 (R, C) each. Raises ``CoderError``."""
    classes, group = _contexts(sides, groups)
    known = read_tables(sections["tables"], *_CODES)
    classes = torch.from_numpy(_clamp_known(classes.numpy(), group.numpy(), known.row))
    high = torch.from_numpy(_read(known, sections["codes"], group.numpy(), classes.numpy()))
    shift = raw_bits(classes)
    values = (high << shift) + torch.from_numpy(_read_low(sections["raw"], shift.numpy()))
    if values.numel() and int(values.abs().max()) > 32767:
        raise CoderError("an integer leaves 16 bits.")
    parts = torch.split(values.to(torch.int16), [shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _contexts(sides: Sequence[tuple[Tensor, Tensor]], groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    classes = torch.cat([predicted(rows, columns).flatten() for rows, columns in sides])
    group = torch.cat([g[:, None].expand(-1, len(side[1])).flatten() for g, side in zip(groups, sides, strict=True)])
    return classes, group


def _pack(values: Ints, groups: Ints, classes: Ints, contexts: tuple[int, int]) -> tuple[bytes, bytes]:
    kinds = groups * 256 + classes
    seen = np.bincount(kinds, minlength=256 * 256) > 0  # by counting: sorting 25 million keys takes seconds
    keys = np.flatnonzero(seen)
    index = (seen.cumsum() - 1)[kinds]
    low = int(values.min())
    width = int(values.max()) - low + 1
    counts = np.bincount(index * width + (values - low), minlength=len(keys) * width).reshape(-1, width)
    tables: dict[Key, tuple[int, Ints]] = {}
    for key, row in zip(keys, counts, strict=True):
        used = np.flatnonzero(row)
        tables[int(key) // 256, int(key) % 256] = (low + int(used[0]), row[used[0] : used[-1] + 1])
    packed = pack_tables(tables)
    known = read_tables(packed, *contexts)
    return packed, encode(values - known.offset, _rows(groups, classes, known), known.frequencies)


def _read(known: Tables, stream: bytes, groups: Ints, classes: Ints) -> Ints:
    symbols = decode(stream, _rows(groups, classes, known), known.frequencies)
    return symbols.astype(np.int64) + known.offset


def _rows(groups: Ints, classes: Ints, known: Tables) -> npt.NDArray[np.int32]:
    row = np.full(256 * 256, -1, np.int32)
    for (group, kind), index in known.row.items():
        row[group * 256 + kind] = index
    rows: npt.NDArray[np.int32] = row[groups * 256 + classes]
    if rows.size and int(rows.min()) < 0:
        raise CoderError("a context has no frequency table.")
    return rows


def _clamp_known(classes: Ints, groups: Ints, known: Mapping[Key, int]) -> Ints:
    """Classes clamped to those that have tables in their group: the decoder's side of ``clamp_rare``."""
    low, high = np.full(256, 255), np.zeros(256, np.int64)
    for group, kind in known:
        low[group], high[group] = min(low[group], kind), max(high[group], kind)
    return np.clip(classes, low[groups], high[groups])


def _pack_low(values: Ints, shift: Ints) -> bytes:
    chosen = shift > 0
    values, shift = values[chosen], shift[chosen]
    bits = [((values >> level) & 1)[shift > level] for level in range(int(shift.max(initial=0)) - 1, -1, -1)]
    return np.packbits(np.concatenate([np.empty(0, np.int64), *bits]).astype(np.uint8)).tobytes()


def _read_low(data: bytes, shift: Ints) -> Ints:
    out = np.zeros_like(shift)
    if len(data) != -(-int(shift.sum()) // 8):
        raise CoderError("the raw bits are not as many as the contexts ask for.")
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.int64)
    at = 0
    for level in range(int(shift.max(initial=0)) - 1, -1, -1):
        places = np.flatnonzero(shift > level)
        out[places] |= bits[at : at + len(places)] << level
        at += len(places)
    return out
