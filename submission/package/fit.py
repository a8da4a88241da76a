"""Fit the packed model under the byte budget: the cheapest ±1 values become 0, only as many as needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Config
from .packed import PackedModel

CLOSE_ENOUGH = 0.001
MAX_TRIES = 16


class DoesNotFit(ValueError):
    """No amount of pruning meets the budget."""


@dataclass(frozen=True)
class Fit:
    """The file, and how many ±1 values were given up of how many."""

    data: bytes
    pruned: int
    candidates: int


def fit_to_budget(
    packed: PackedModel,
    importance: dict[str, Tensor],
    config: Config,
    budget_bytes: int,
    progress: Callable[[float], None],
) -> Fit:
    """Prune to at most ``budget_bytes``, within 0.1 % below it where pruning is needed at all.

    The price of a value is scale² · importance of its column (the Hessian's diagonal): the squared error of the
    layer's output. Raises ``DoesNotFit`` with the smallest size that pruning reaches.
    """
    data = packed.to_bytes(config)
    names, flat, price = _candidates(packed, importance)
    total = len(price)
    if len(data) <= budget_bytes:
        return Fit(data, 0, total)
    order = price.argsort(stable=True)
    smallest = _pruned(packed, names, flat, order).to_bytes(config)
    if len(smallest) > budget_bytes:
        raise DoesNotFit(
            f"the model needs {len(smallest):,} bytes with every ±1 value pruned; the budget is {budget_bytes:,}. "
            "Lower QUANT_BITS, or make the model smaller."
        )
    low, high, best = 0, total, Fit(smallest, total, total)
    for attempt in range(MAX_TRIES):
        if len(best.data) >= budget_bytes * (1 - CLOSE_ENOUGH) or high - low <= 1:
            break
        middle = (low + high) // 2
        data = _pruned(packed, names, flat, order[:middle]).to_bytes(config)
        if len(data) <= budget_bytes:
            high, best = middle, Fit(data, middle, total)
        else:
            low = middle
        progress((attempt + 1) / MAX_TRIES)
    return best


def _candidates(packed: PackedModel, importance: dict[str, Tensor]) -> tuple[list[str], Tensor, Tensor]:
    """Names of the tensors, then position (tensor, flat index) and price of every ±1 value."""
    names = sorted(packed.codes)
    places, prices = [], []
    for index, name in enumerate(names):
        codes, scales = packed.codes[name], packed.scales[name]
        rows, columns = torch.nonzero(codes.abs() == 1, as_tuple=True)
        weight = importance.get(name, torch.ones(codes.shape[1]))
        prices.append(scales[rows].square() * weight[columns])
        places.append(torch.stack((torch.full_like(rows, index), rows * codes.shape[1] + columns), 1))
    return names, torch.cat(places), torch.cat(prices)


def _pruned(packed: PackedModel, names: list[str], places: Tensor, chosen: Tensor) -> PackedModel:
    codes = {}
    picked = places[chosen]
    for index, name in enumerate(names):
        flat = packed.codes[name].flatten().clone()
        flat[picked[picked[:, 0] == index, 1]] = 0
        codes[name] = flat.view_as(packed.codes[name])
    return PackedModel(codes, packed.scales, packed.small)
