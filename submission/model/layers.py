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


class Linear(nn.Linear):
    """A linear layer without bias that computes in the input's dtype, whatever its weight is stored in.

    It starts orthogonal (gain 1), or at zero.
    """

    def __init__(self, inputs: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__(inputs, outputs, bias=False)
        if not self.weight.is_meta:
            _ = nn.init.zeros_(self.weight) if zero else nn.init.orthogonal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        return F.linear(input, self.weight.to(input.dtype))


class TwoPartLinear(Linear):
    """A linear layer whose first ``first`` outputs come as a tensor of their own: no copy to take them apart."""

    def __init__(self, inputs: int, outputs: int, first: int) -> None:
        super().__init__(inputs, outputs)
        self.first = first

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(…, inputs) → (…, first) and (…, outputs - first)."""
        weight = self.weight.to(input.dtype)
        return F.linear(input, weight[: self.first]), F.linear(input, weight[self.first :])


class MLP(nn.Module):
    """Leaky ReLU (slope 0.5), squared; the output matrix starts at zero."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        """(b, L, width) → the same shape."""
        out: Tensor = self.proj(F.leaky_relu(self.fc(x), 0.5).square())
        return out
