"""Contexts of the coder: the spread that a row and a column predict for each integer (ARTIFACT.md).

On torch, so that the fit can price a quantisation on the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..config import Config
from ..model.mamba3 import in_proj_split

LOWEST, HIGHEST = -16, 44  # classes: deviations of 1/16 to 2048 steps
RARE = 512  # classes at a role's ends with fewer integers than this join their neighbour
RAW_FROM = 16  # a predicted deviation of 2^4 or more after the shift keeps at most 2^5
LIMIT = 2047  # largest integer

ROLES = (
    "embedding", "z", "x", "B", "C", "dd_dt", "dd_A", "trap", "angles", "out_proj", "q", "k", "v", "attention_out",
    "mlp_in", "mlp_out",
)  # fmt: skip
_OF_SUFFIX = {
    "mixer.out_proj.weight": "out_proj", "mixer.q.weight": "q", "mixer.k.weight": "k", "mixer.v.weight": "v",
    "mixer.out.weight": "attention_out", "mlp.fc.weight": "mlp_in", "mlp.proj.weight": "mlp_out",
}  # fmt: skip


def role_rows(name: str, rows: int, config: Config) -> dict[str, slice]:
    """The roles of a matrix and their rows. Raises ``KeyError`` for a name that is no matrix of the model."""
    if name == "embedding.weight":
        return {"embedding": slice(0, rows)}
    if name.endswith("in_proj.weight"):
        return in_proj_split(config)
    return {_OF_SUFFIX[name.split(".", 2)[2]]: slice(0, rows)}


def row_groups(name: str, rows: int, config: Config) -> Tensor:
    """Index into ``ROLES`` of each row, int64 (rows,)."""
    groups = torch.empty(rows, dtype=torch.int64)
    for role, part in role_rows(name, rows, config).items():
        groups[part] = ROLES.index(role)
    return groups


def side_classes(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Classes of the rows (R,) and of the columns (C,), int64, for integers (R, C)."""
    wide = codes.float()
    rows = _quarter_octaves(wide.square().mean(1).sqrt())
    columns = _quarter_octaves((wide * torch.exp2(-rows / 4)[:, None]).square().mean(0).sqrt())
    return rows, columns


def predicted(rows: Tensor, columns: Tensor) -> Tensor:
    """Class of each integer, int64 (R, C), in [0, HIGHEST - LOWEST]."""
    return (rows[:, None] + columns).clamp(LOWEST, HIGHEST) - LOWEST


def raw_bits(classes: Tensor) -> Tensor:
    """How many lowest bits an integer of each class sends raw."""
    return ((classes + LOWEST - RAW_FROM) // 4).clamp(min=0)


def clamp_rare(classes: Tensor, groups: Tensor) -> Tensor:
    """Classes (n,) with the rare ends of each group (n,) joined to their neighbours."""
    kinds = HIGHEST - LOWEST + 1
    counts = torch.bincount(groups * kinds + classes, minlength=len(ROLES) * kinds).view(-1, kinds)
    low = (counts.cumsum(1) < RARE).sum(1)
    high = kinds - 1 - (counts.flip(1).cumsum(1) < RARE).sum(1)
    small = low >= high
    middle = (counts * torch.arange(kinds, device=counts.device)).sum(1) // counts.sum(1).clamp(min=1)
    low, high = torch.where(small, middle, low), torch.where(small, middle, high)
    return torch.minimum(torch.maximum(classes, low[groups]), high[groups])


def entropy_bits(codes: Mapping[str, Tensor], groups: Mapping[str, Tensor]) -> float:
    """Bits of all integers under their own contexts' empirical distributions, with the raw bits and side classes."""
    sides = [side_classes(c) for c in codes.values()]
    side = sum(_entropy_of(part) for pair in sides for part in pair)
    return float(integer_bits(codes, groups, sides).sum()) + side


def integer_bits(
    codes: Mapping[str, Tensor], groups: Mapping[str, Tensor], sides: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Bits of each role's integers, float64 (roles,): ``entropy_bits`` without the side classes ``sides``."""
    classes = torch.cat([predicted(rows, columns).flatten() for rows, columns in sides])
    group = torch.cat([groups[name][:, None].expand_as(c).flatten() for name, c in codes.items()])
    classes = clamp_rare(classes, group)
    shift = raw_bits(classes)
    symbols = (torch.cat([c.flatten() for c in codes.values()]).long() >> shift) + LIMIT + 1
    kinds, width = HIGHEST - LOWEST + 1, 2 * LIMIT + 2
    context = group * kinds + classes
    counts = torch.bincount(context * width + symbols, minlength=len(ROLES) * kinds * width).double()
    bits = _plogp(counts.view(-1, width)).view(len(ROLES), kinds).sum(1)
    return bits + torch.bincount(group, weights=shift.double(), minlength=len(ROLES))


def _plogp(counts: Tensor) -> Tensor:
    """Bits of each row's symbols under that row's own distribution."""
    total = counts.sum(1)
    nats: Tensor = torch.special.xlogy(total, total) - torch.special.xlogy(counts, counts).sum(1)
    return nats / math.log(2)


def _entropy_of(values: Tensor) -> float:
    return float(_plogp(torch.unique(values, return_counts=True)[1][None].double()))


def _quarter_octaves(spread: Tensor) -> Tensor:
    return (4 * torch.log2(spread.clamp(min=2.0**-16))).round().long().clamp(-64, 63)
