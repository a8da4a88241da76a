"""Muon with row normalisation (MuonEq-R): momentum, then orthogonalised by Newton–Schulz, for the blocks' matrices.

Coefficients (3.4445, -4.7750, 2.0315) as in the public challenge's root script; rows are normalised to unit norm first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from .group import gather_from_ranks, own_rank, world_size
from .owners import balanced

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(g: Tensor, steps: int, row_normalise: bool) -> Tensor:
    """The nearest semi-orthogonal matrices to a batch ``g`` (n, rows, columns), approximately, in ``g``'s dtype."""
    return newton_schulz(g, steps, row_normalise).to(g.dtype)


def newton_schulz(g: Tensor, steps: int, row_normalise: bool) -> Tensor:
    """``orthogonalise`` in the dtype that it is computed in: bf16 on a GPU, float32 on a CPU."""
    x = g.to(working_dtype(g))
    if row_normalise:
        x = x / (x.norm(dim=-1, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def working_dtype(g: Tensor) -> torch.dtype:
    """What Newton–Schulz computes in."""
    return torch.bfloat16 if g.is_cuda else torch.float32


def cost(shape: torch.Size) -> int:
    """Multiplications of one Newton–Schulz step on a matrix: x xᵀ, its square, and their product with x."""
    narrow, wide = sorted(shape)
    return narrow * narrow * (2 * wide + narrow)


@dataclass(frozen=True)
class Batch:
    """Matrices of one shape that lie side by side in a flat buffer, ``start`` to ``stop``; size: (n, rows, columns)."""

    start: int
    stop: int
    size: tuple[int, int, int]

    def of(self, flat: Tensor) -> Tensor:
        """This batch in ``flat``, as a view."""
        return flat[self.start : self.stop].view(self.size)


class Muon:
    """Nesterov momentum and orthogonalised updates; matrices of one shape are updated in one batch.

    Matrices are dealt out to the ranks by what they cost; the results come together as one message, in the dtype that
    they were computed in. Join the ranks before.
    """

    def __init__(self, parameters: list[Tensor], *, lr: float, weight_decay: float, steps: int, row_normalise: bool):
        self.lr, self.weight_decay, self.steps, self.row_normalise = lr, weight_decay, steps, row_normalise
        self._world = world_size()
        owners = balanced([cost(p.shape) for p in parameters], self._world)
        owned = [[p for p, owner in zip(parameters, owners, strict=True) if owner == r] for r in range(self._world)]
        self._part = max(sum(p.numel() for p in matrices) for matrices in owned)  # each rank's of the message
        layouts = [_layout(matrices, rank * self._part) for rank, matrices in enumerate(owned)]
        self._parameters = [p for matrices, _ in layouts for p in matrices]
        self._everywhere = [batch for _, batches in layouts for batch in batches]
        self._own, self._batches = _layout(owned[own_rank()], 0)
        self._by_factor: dict[float, list[int]] = defaultdict(list)
        for index, parameter in enumerate(self._parameters):
            rows, columns = parameter.shape
            self._by_factor[max(1.0, rows / columns) ** 0.5].append(index)
        self.momentum = parameters[0].detach().new_zeros(sum(p.numel() for p in self._own))

    @torch.no_grad()
    def step(self, lr_scale: float, momentum: float) -> None:
        """Apply one update from the parameters' gradients (already averaged over ranks)."""
        gradients = {id(p): _gradient(p) for p in self._parameters}
        direction = torch.cat([self.momentum[:0], *(gradients[id(p)].flatten() for p in self._own)])
        self.momentum.lerp_(direction, 1 - momentum)
        direction.lerp_(self.momentum, momentum)
        updates = self._updates(direction)
        rate = self.lr * lr_scale
        torch._foreach_mul_(self._parameters, 1 - rate * self.weight_decay)
        for factor, chosen in self._by_factor.items():
            parameters = [self._parameters[index] for index in chosen]
            torch._foreach_add_(parameters, [updates[index] for index in chosen], alpha=-rate * factor)

    def reset(self) -> None:
        """Forget the momentum, after a warm-up on synthetic tokens."""
        self.momentum.zero_()

    def _updates(self, direction: Tensor) -> list[Tensor]:
        """The orthogonalised update of each matrix of all ranks, from the directions of this rank's own."""
        alone = self._world == 1
        mine = direction.new_empty(self._part, dtype=direction.dtype if alone else working_dtype(direction))
        for batch in self._batches:
            batch.of(mine).copy_(newton_schulz(batch.of(direction), self.steps, self.row_normalise))
        whole = mine if alone else gather_from_ranks(mine).to(direction.dtype)
        return [update for batch in self._everywhere for update in batch.of(whole).unbind()]


def _layout(matrices: list[Tensor], start: int) -> tuple[list[Tensor], list[Batch]]:
    """The matrices with those of one shape side by side, and where each shape lies in a buffer, from ``start`` on."""
    by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        by_shape[matrix.shape].append(matrix)
    batches: list[Batch] = []
    for (rows, columns), same in by_shape.items():
        stop = start + len(same) * rows * columns
        batches.append(Batch(start, stop, (len(same), rows, columns)))
        start = stop
    return [matrix for same in by_shape.values() for matrix in same], batches


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a matrix has no gradient; it is not part of the loss.")
    return parameter.grad
