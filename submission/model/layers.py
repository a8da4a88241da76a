"""Small parts that several modules share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis with a learned gain, computed in float32 or better (eps 1e-5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → the same shape."""
        wide = x if x.dtype == torch.float64 else x.float()
        return F.rms_norm(wide, (x.shape[-1],), self.weight.to(wide.dtype), 1e-5)


def rms(x: Tensor) -> Tensor:
    """Root-mean-square norm over the last axis, no gain."""
    return F.rms_norm(x, (x.shape[-1],))


def orthogonal_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer without bias, orthogonal at the start (gain 1)."""
    layer = nn.Linear(inputs, outputs, bias=False)
    if not layer.weight.is_meta:
        nn.init.orthogonal_(layer.weight)
    return layer


class MLP(nn.Module):
    """Leaky ReLU (slope 0.5), squared; the output matrix starts at zero."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = orthogonal_linear(width, hidden)
        self.proj = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, L, width) → the same shape."""
        out: Tensor = self.proj(F.leaky_relu(self.fc(x), 0.5).square())
        return out
