"""Fit a model of given row bits under the byte budget: the cheapest ±1 values become 0, only as many as needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Config
from .packed import Matrix, PackedModel

CLOSE_ENOUGH = 0.001
ENCODINGS = 10
FIRST_GUESS = 1.015  # a file over the entropy of its integers, before one is written
LEAST_SAVING = 0.05  # bits that a pruned value counts as saving at least


class DoesNotFit(ValueError):
    """No amount of pruning meets the budget."""


@dataclass(frozen=True)
class Fit:
    """The file and its model; how many ±1 values were given up of how many; files written."""

    data: bytes
    packed: PackedModel
    pruned: int
    candidates: int
    encodings: int


def fit_to_budget(
    packed: PackedModel,
    importance: Mapping[str, Tensor],
    config: Config,
    budget_bytes: int,
    progress: Callable[[float], None],
) -> Fit:
    """Prune to at most ``budget_bytes``, within 0.1 % below it where pruning is needed at all.

    Values go in order of price (scale² · the Hessian's diagonal: the layer's squared error) over bits saved. Raises
    ``DoesNotFit`` with the smallest size.
    """
    order = PruningOrder(packed, importance)
    total = len(order.price)
    target = budget_bytes * (1 - CLOSE_ENOUGH / 2)
    low, high = -1, total  # the largest count known to be too few, the smallest known or hoped to be enough
    count = 0 if order.entropy_bytes(0) <= budget_bytes else order.solve(target, FIRST_GUESS)
    best: tuple[bytes, PackedModel, int] | None = None
    encodings = 0
    while encodings < ENCODINGS or best is None:
        model = order.pruned(count)
        data = model.to_bytes(config)
        encodings += 1
        progress(encodings / ENCODINGS)
        if len(data) <= budget_bytes:
            high = count
            if best is None or len(data) > len(best[0]):
                best = data, model, count
            if count == 0 or len(data) >= budget_bytes * (1 - CLOSE_ENOUGH):
                break
        elif count == total:
            raise DoesNotFit(
                f"the model needs {len(data):,} bytes with every ±1 value pruned; the budget is {budget_bytes:,}. "
                "Lower QUANT_BITS, set QUANT_RD=1, or make the model smaller."
            )
        else:
            low = count
        if high - low <= 1 and best is not None:
            break
        wanted = order.solve(target, len(data) / order.entropy_bytes(count))
        last = best is None and encodings >= ENCODINGS - 1
        count = total if last else min(max(wanted, low + 1), high if best is None else high - 1)
    data, model, count = best
    return Fit(data, model, count, total, encodings)


class PruningOrder:
    """All ±1 values of a model in the order in which they are given up.

    price (n,): float64, squared error of each in that order.
    """

    def __init__(self, packed: PackedModel, importance: Mapping[str, Tensor]) -> None:
        self._packed = packed
        self._names = sorted(packed.matrices)
        self._flat = torch.cat([packed.matrices[name].codes.flatten() for name in self._names])
        self._kinds: list[Tensor] = []  # of each matrix: counts of the integers' values, zero and ±1 first
        prices, savings, places, owners = [], [], [], []
        at = 0
        for index, name in enumerate(self._names):
            codes = packed.matrices[name].codes
            counts = _counts(codes)
            self._kinds.append(counts)
            rows, columns = torch.nonzero(codes.abs() == 1, as_tuple=True)
            prices.append(_price(packed.matrices[name], name, importance, rows, columns))
            saving = torch.log2(counts[:1].clamp(min=1) / counts[1:3].clamp(min=1)).clamp(min=LEAST_SAVING)
            sign = (codes[rows, columns] < 0).long()
            savings.append(saving[sign])
            places.append(at + rows * codes.shape[1] + columns)
            owners.append(2 * index + sign)
            at += codes.numel()
        price = torch.cat(prices).double()
        order = (price / torch.cat(savings)).argsort(stable=True)
        self.price = price[order]
        self._places = torch.cat(places)[order]
        owner = torch.cat(owners)[order]
        by_owner = owner.argsort(stable=True)  # ranks in the order, owner by owner, rising within each
        ends = torch.bincount(owner, minlength=2 * len(self._names)).cumsum(0)[:-1]
        self._ranks = torch.tensor_split(by_owner, ends)

    def pruned(self, count: int) -> PackedModel:
        """The model without its first ``count`` values."""
        flat = self._flat.clone()
        flat[self._places[:count]] = 0
        sizes = [self._packed.matrices[name].codes.numel() for name in self._names]
        kept = dict(zip(self._names, torch.split(flat, sizes), strict=True))
        matrices = {
            name: Matrix(kept[name].view_as(matrix.codes), matrix.scales, None)
            for name, matrix in self._packed.matrices.items()
        }
        return PackedModel(matrices, self._packed.small)

    def entropy_bytes(self, count: int) -> float:
        """Bytes of all integers, each at the entropy of its matrix, after ``count`` values were pruned."""
        bits = 0.0
        for index, counts in enumerate(self._kinds):
            gone = [int(torch.searchsorted(self._ranks[2 * index + sign], count)) for sign in (0, 1)]
            left = counts.clone()
            left[0] += sum(gone)
            left[1] -= gone[0]
            left[2] -= gone[1]
            bits += float(torch.special.xlogy(left.sum(), left.sum()) - torch.special.xlogy(left, left).sum())
        return bits / (8 * math.log(2))

    def solve(self, target: float, factor: float) -> int:
        """Least count whose entropy, times ``factor``, is at most ``target`` bytes; all values where none is."""
        low, high = 0, len(self.price)
        while low < high:
            middle = (low + high) // 2
            if self.entropy_bytes(middle) * factor <= target:
                high = middle
            else:
                low = middle + 1
        return low


def _counts(codes: Tensor) -> Tensor:
    """How often 0, 1, -1 and each other integer occurs, float64."""
    wide = codes.flatten().long()
    tally = torch.bincount(torch.where(wide > 0, 2 * wide - 1, -2 * wide), minlength=3)
    return tally.double()


def _price(packed: Matrix, name: str, importance: Mapping[str, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    if packed.scales is None:
        raise ValueError(f"{name} is on the rate-distortion grid; it is fitted by its step.")
    weight = importance.get(name, torch.ones(packed.codes.shape[1]))
    return packed.scales[rows].square() * weight[columns]
