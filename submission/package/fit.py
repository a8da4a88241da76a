"""Fit a model of given row bits under the byte budget: the cheapest ±1 values become 0, only as many as needed.

The rate–distortion packer needs none of this; it is what the recipe of pull request #1890 does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Config
from .packed import Matrix, PackedModel

CLOSE_ENOUGH = 0.001
ROUNDS = 8


class DoesNotFit(ValueError):
    """No amount of pruning meets the budget."""


@dataclass(frozen=True)
class Fit:
    """The file and its model; how many ±1 values were given up of how many, and their summed price."""

    data: bytes
    packed: PackedModel
    pruned: int
    candidates: int
    price: float


def fit_to_budget(
    packed: PackedModel,
    importance: Mapping[str, Tensor],
    config: Config,
    budget_bytes: int,
    progress: Callable[[float], None],
) -> Fit:
    """Prune to at most ``budget_bytes``, within 0.1 % below it where pruning is needed at all.

    The price of a value is scale² · importance of its column (the Hessian's diagonal): the squared error of the
    layer's output. Several counts are tried at once, one a core. Raises ``DoesNotFit`` with the smallest size.
    """
    data = packed.to_bytes(config)
    names, places, price = _candidates(packed, importance)
    total = len(price)
    if len(data) <= budget_bytes:
        return Fit(data, packed, 0, total, 0.0)
    order = price.argsort(stable=True)
    places = places[order]
    spent = price[order].double().cumsum(0)

    def tried(count: int) -> Fit:
        model = _pruned(packed, names, places[:count])
        return Fit(model.to_bytes(config), model, count, total, float(spent[count - 1]) if count else 0.0)

    best = tried(total)
    if len(best.data) > budget_bytes:
        raise DoesNotFit(
            f"the model needs {len(best.data):,} bytes with every ±1 value pruned; the budget is {budget_bytes:,}. "
            "Lower QUANT_BITS, set QUANT_RD=1, or make the model smaller."
        )
    low, low_size = 0, len(data)
    cores = max(1, min(8, os.cpu_count() or 1))
    for attempt in range(ROUNDS):
        if len(best.data) >= budget_bytes * (1 - CLOSE_ENOUGH) or best.pruned - low <= 1:
            break
        with ThreadPoolExecutor(cores) as pool:
            trials = list(pool.map(tried, _counts(low, low_size, best, budget_bytes, cores)))
        for fit in sorted(trials, key=lambda f: f.pruned):
            if len(fit.data) > budget_bytes:
                low, low_size = fit.pruned, len(fit.data)
            elif len(fit.data) > len(best.data):
                best = fit
        progress((attempt + 1) / ROUNDS)
    return best


def _counts(low: int, low_size: int, high: Fit, budget: int, many: int) -> list[int]:
    """Counts between both ends, close around where a straight line meets the budget."""
    span = high.pruned - low
    at = low + span * (low_size - budget) / max(1, low_size - len(high.data))
    width = span / (2 * many)
    counts = {round(at + width * (i - (many - 1) / 2 + 0.25)) for i in range(many)}
    return sorted({min(high.pruned - 1, max(low + 1, count)) for count in counts})


def _candidates(packed: PackedModel, importance: Mapping[str, Tensor]) -> tuple[list[str], Tensor, Tensor]:
    """Names of the tensors, then position (tensor, flat index) and price of every ±1 value."""
    names = sorted(packed.matrices)
    places, prices = [], []
    for index, name in enumerate(names):
        matrix = packed.matrices[name]
        scales = matrix.scales
        if scales is None:
            raise ValueError(f"{name} is on the rate-distortion grid; it is fitted by its step.")
        rows, columns = torch.nonzero(matrix.codes.abs() == 1, as_tuple=True)
        weight = importance.get(name, torch.ones(matrix.codes.shape[1]))
        prices.append(scales[rows].square() * weight[columns])
        places.append(torch.stack((torch.full_like(rows, index), rows * matrix.codes.shape[1] + columns), 1))
    return names, torch.cat(places), torch.cat(prices)


def _pruned(packed: PackedModel, names: list[str], picked: Tensor) -> PackedModel:
    matrices = {}
    for index, name in enumerate(names):
        matrix = packed.matrices[name]
        flat = matrix.codes.flatten().clone()
        flat[picked[picked[:, 0] == index, 1]] = 0
        matrices[name] = Matrix(flat.view_as(matrix.codes), matrix.scales, None)
    return PackedModel({name: matrices[name] for name in packed.matrices}, packed.small)
