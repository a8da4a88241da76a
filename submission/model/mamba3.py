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
from ..scan.fused import fused_scan, usable
from ..scan.inputs import ScanInputs, ScanState, zero_state
from .layers import Linear, RMSNorm, TwoPartLinear

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
    """The mixer of one block."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.head_dim = config.mamba_heads, config.mamba3_headdim
        self.chunk, self.backend = config.mamba3_chunk_size, config.mamba3_backend
        self._kernels_fit = usable(self.heads, self.head_dim, config.mamba3_d_state, config.rotation_angles)
        self.split = in_proj_split(config)
        self.sizes = [rows.stop - rows.start for rows in self.split.values()]
        self.in_proj = TwoPartLinear(config.model_dim, sum(self.sizes), sum(self.sizes[:2]))
        self.dt_bias = nn.Parameter(_initial_dt_bias(self.heads))
        self.B_bias = nn.Parameter(torch.ones(self.heads, 1, config.mamba3_d_state))
        self.C_bias = nn.Parameter(torch.ones(self.heads, 1, config.mamba3_d_state))
        self.B_norm = RMSNorm(config.mamba3_d_state)
        self.C_norm = RMSNorm(config.mamba3_d_state)
        self.D = nn.Parameter(torch.ones(self.heads))
        self.out_proj = Linear(config.inner_dim, config.model_dim)

    def forward(self, x: Tensor, starts: Tensor | None = None) -> Tensor:
        """(b, L, width) → (b, L, width).

        starts: (b, L) bool, tokens before which the state counts as zero; None: nowhere
        """
        if self.backend_for(x) == "fused":
            y = self._fused(x, starts)
        else:
            inputs, gate = self.scan_inputs(x)
            y, _ = chunked_scan(inputs._replace(reset=starts), None, self.chunk)
            y = (y.to(gate.dtype) * F.silu(gate)).flatten(2)
        out: Tensor = self.out_proj(y)
        return out

    def backend_for(self, x: Tensor) -> str:
        """The scan that ``forward`` runs on ``x``: the Triton kernels need a GPU, their sizes and 16-bit inputs."""
        if self.backend != "auto":
            return self.backend
        return "fused" if x.is_cuda and x.dtype == torch.bfloat16 and self._kernels_fit else "chunked"

    def _fused(self, x: Tensor, starts: Tensor | None) -> Tensor:
        zv, rest = self.in_proj(x)
        inputs = self._quantities(*rest.split(self.sizes[2:], -1), v=zv)._replace(reset=starts)
        return fused_scan(inputs, zv, (self.C_bias[:, 0], self.B_bias[:, 0]))

    def zero_state(self, batch: int, like: Tensor) -> ScanState:
        """The state before the first token of ``batch`` sequences, with the device and dtype of ``like``."""
        return zero_state(batch, self.heads, self.head_dim, len(self.B_norm.weight), self.sizes[-1], like)

    def scan_inputs(self, x: Tensor) -> tuple[ScanInputs, Tensor]:
        """Projection of ``x`` to the scan's inputs and the gate's logits z (b, L, H, P)."""
        zv, rest = self.in_proj(x)
        z, v = zv.chunk(2, -1)
        inputs = self._quantities(*rest.split(self.sizes[2:], -1), v=v.unflatten(-1, (self.heads, self.head_dim)))
        q, k = self._heads(inputs.q, self.C_bias).to(v.dtype), self._heads(inputs.k, self.B_bias).to(v.dtype)
        return inputs._replace(q=q, k=k), z.unflatten(-1, (self.heads, self.head_dim))

    def _quantities(
        self, key: Tensor, query: Tensor, dd_dt: Tensor, dd_a: Tensor, trap: Tensor, angles: Tensor, *, v: Tensor
    ) -> ScanInputs:
        """The scan's inputs from their logits; q and k normed, (b, L, N), without bias and not spread over heads."""
        wide = torch.float64 if v.dtype == torch.float64 else torch.float32
        dt = F.softplus(dd_dt.to(wide) + self.dt_bias)
        a = (-F.softplus(dd_a.to(wide))).clamp(max=-A_FLOOR)
        return ScanInputs(
            q=self.C_norm(query).to(v.dtype),
            k=self.B_norm(key).to(v.dtype),
            v=v,
            log_decay=a * dt,
            dt=dt,
            lam=trap.to(wide).sigmoid(),
            omega=math.pi * angles.to(wide).tanh(),
            d=self.D.to(wide),
        )

    def _heads(self, x: Tensor, bias: Tensor) -> Tensor:
        """One group's (b, L, N) spread to the heads, plus each head's bias: (b, L, H, N)."""
        return x[:, :, None] + bias[:, 0]


def _initial_dt_bias(heads: int) -> Tensor:
    """Inverse softplus of steps drawn log-uniformly from [DT_MIN, DT_MAX]."""
    span = math.log(DT_MAX) - math.log(DT_MIN)
    dt = torch.exp(torch.rand(heads) * span + math.log(DT_MIN)).clamp(min=DT_INIT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))
