"""Muon with row normalisation (MuonEq-R): momentum, then orthogonalised by Newton–Schulz, for the blocks' matrices.

Coefficients (3.4445, -4.7750, 2.0315) as in the public challenge's root script; rows are normalised to unit norm first.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from .group import gather_from_ranks, own_rank, world_size

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(g: Tensor, steps: int, row_normalise: bool) -> Tensor:
    """The nearest semi-orthogonal matrices to a batch ``g`` (n, rows, columns), approximately, in ``g``'s dtype.

    bf16 on a GPU, float32 on a CPU.
    """
    x = g.bfloat16() if g.is_cuda else g.float()
    if row_normalise:
        x = x / (x.norm(dim=-1, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = (x.mT if tall else x).to(g.dtype)
    return result


class Muon:
    """Nesterov momentum and orthogonalised updates; matrices of one shape are updated in one batch.

    With several ranks each shape's matrices are spread over the ranks and the results are gathered.
    """

    def __init__(self, parameters: list[Tensor], *, lr: float, weight_decay: float, steps: int, row_normalise: bool):
        self.lr, self.weight_decay, self.steps, self.row_normalise = lr, weight_decay, steps, row_normalise
        self._groups: list[list[Tensor]] = list(_by_shape(parameters).values())
        self._momentum = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self._groups]

    @torch.no_grad()
    def step(self, lr_scale: float, momentum: float) -> None:
        """Apply one update from the parameters' gradients (already averaged over ranks)."""
        for group, buffer in zip(self._groups, self._momentum, strict=True):
            grads = torch.stack([_gradient(p) for p in group])
            buffer.lerp_(grads, 1 - momentum)
            update = self._orthogonal(grads.lerp(buffer, momentum))
            rows, columns = group[0].shape
            scale = -self.lr * lr_scale * max(1.0, rows / columns) ** 0.5
            torch._foreach_mul_(group, 1 - self.lr * lr_scale * self.weight_decay)
            torch._foreach_add_(group, list(update.unbind(0)), alpha=scale)

    def reset(self) -> None:
        """Forget the momentum, after a warm-up on synthetic tokens."""
        for buffer in self._momentum:
            buffer.zero_()

    def _orthogonal(self, batch: Tensor) -> Tensor:
        world, rank = world_size(), own_rank()
        if world == 1:
            return orthogonalise(batch, self.steps, self.row_normalise)
        each = -(-len(batch) // world)
        padded = torch.cat((batch, batch.new_zeros(each * world - len(batch), *batch.shape[1:])))
        mine = orthogonalise(padded[rank * each : (rank + 1) * each], self.steps, self.row_normalise)
        return gather_from_ranks(mine)[: len(batch)]


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a matrix has no gradient; it is not part of the loss.")
    return parameter.grad


def _by_shape(parameters: list[Tensor]) -> dict[torch.Size, list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        groups[parameter.shape].append(parameter)
    return groups
