"""The Mamba-3 SISO mixer (one group, no convolution, no output norm, gate inside).

Rows of ``in_proj``, in order: z, x, B, C, dd_dt, dd_A, trap, angles. Their numbers follow from the configuration.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import Config
from ..scan.chunked import chunked_scan
from ..scan.inputs import ScanInputs, ScanState, zero_state
from ..scan.sequential import sequential_scan
from .layers import RMSNorm, orthogonal_linear

DT_MIN, DT_MAX, DT_INIT_FLOOR, A_FLOOR = 1e-3, 0.1, 1e-4, 1e-4


def in_proj_split(config: Config) -> dict[str, slice]:
    """Rows of ``in_proj.weight`` by role."""
    inner, state, heads = config.inner_dim, config.mamba3_d_state, config.mamba_heads
    sizes = {
        "z": inner, "x": inner, "B": state, "C": state,
        "dd_dt": heads, "dd_A": heads, "trap": heads, "angles": config.rotation_angles,
    }  # fmt: skip
    slices, at = {}, 0
    for role, size in sizes.items():
        slices[role] = slice(at, at + size)
        at += size
    return slices


class Mamba3(nn.Module):
    """The mixer of one block; ``forward`` carries its state in and out."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.head_dim = config.mamba_heads, config.mamba3_headdim
        self.chunk = config.mamba3_chunk_size
        self.split = in_proj_split(config)
        self.sizes = [rows.stop - rows.start for rows in self.split.values()]
        self.in_proj = orthogonal_linear(config.model_dim, sum(self.sizes))
        self.dt_bias = nn.Parameter(_initial_dt_bias(self.heads))
        self.B_bias = nn.Parameter(torch.ones(self.heads, 1, config.mamba3_d_state))
        self.C_bias = nn.Parameter(torch.ones(self.heads, 1, config.mamba3_d_state))
        self.B_norm = RMSNorm(config.mamba3_d_state)
        self.C_norm = RMSNorm(config.mamba3_d_state)
        self.D = nn.Parameter(torch.ones(self.heads))
        self.out_proj = orthogonal_linear(config.inner_dim, config.model_dim)

    def forward(self, x: Tensor, state: ScanState | None = None) -> tuple[Tensor, ScanState]:
        """(b, L, width) → (b, L, width) and the state after the last token."""
        inputs, gate = self.scan_inputs(x)
        if x.shape[1] == 1 and state is not None:
            y, new_state = sequential_scan(inputs, state)
        else:
            y, new_state = chunked_scan(inputs, state, self.chunk)
        y = y.to(gate.dtype) * F.silu(gate)
        return self.out_proj(y.flatten(2)), new_state

    def zero_state(self, batch: int, like: Tensor) -> ScanState:
        """The state before the first token of ``batch`` sequences, with the device and dtype of ``like``."""
        return zero_state(batch, self.heads, self.head_dim, len(self.B_norm.weight), self.sizes[-1], like)

    def scan_inputs(self, x: Tensor) -> tuple[ScanInputs, Tensor]:
        """Projection of ``x`` to the scan's inputs and the gate's logits z (b, L, H, P)."""
        z, v, key, query, dd_dt, dd_a, trap, angles = self.in_proj(x).split(self.sizes, -1)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        dt = F.softplus(dd_dt.to(wide) + self.dt_bias)
        a = (-F.softplus(dd_a.to(wide))).clamp(max=-A_FLOOR)
        inputs = ScanInputs(
            q=self._heads(self.C_norm(query), self.C_bias).to(v.dtype),
            k=self._heads(self.B_norm(key), self.B_bias).to(v.dtype),
            v=v.unflatten(-1, (self.heads, self.head_dim)),
            log_decay=a * dt,
            dt=dt,
            lam=trap.to(wide).sigmoid(),
            omega=math.pi * angles.to(wide).tanh(),
            d=self.D.to(v.dtype),
        )
        return inputs, z.unflatten(-1, (self.heads, self.head_dim))

    def _heads(self, x: Tensor, bias: Tensor) -> Tensor:
        """One group's (b, L, N) spread to the heads, plus each head's bias: (b, L, H, N)."""
        return x[:, :, None] + bias[:, 0]


def _initial_dt_bias(heads: int) -> Tensor:
    """Inverse softplus of steps drawn log-uniformly from [DT_MIN, DT_MAX]."""
    span = math.log(DT_MAX) - math.log(DT_MIN)
    dt = torch.exp(torch.rand(heads) * span + math.log(DT_MIN)).clamp(min=DT_INIT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))
