"""The Mamba-3 SISO recurrence, token by token: the definition that everything else is tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..scan.inputs import ScanInputs, ScanState, rotate


def sequential_scan(inputs: ScanInputs, state: ScanState) -> tuple[Tensor, ScanState]:
    """Run the recurrence. Returns y (b, L, H, P), before the gate, and the state after the last token.

    S_t = α_t S_{t-1} + (1 - λ_t) dt_t α_t v_{t-1} k_{t-1}ᵀ + λ_t dt_t v_t k_tᵀ and y_t = S_t q_t + D v_t, with k and q
    turned by θ_t = θ_{t-1} + ω_t dt_t (Mamba-3, trapezoidal rule with data-dependent rotation).
    """
    outputs = []
    for t in range(inputs.q.shape[1]):
        y, state = scan_step(inputs, t, state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


def scan_step(inputs: ScanInputs, t: int, state: ScanState) -> tuple[Tensor, ScanState]:
    """One token: y (b, H, P) and the new state."""
    q, k, v, log_decay, dt, lam, omega, d, reset = inputs
    if reset is not None:
        state = ScanState(*(part.masked_fill(_like(reset[:, t], part), 0.0) for part in state))
    theta = (state.theta + omega[:, t, None] * dt[:, t, :, None]) % (2 * math.pi)
    key, query = rotate(k[:, t], theta), rotate(q[:, t], theta)
    decay = log_decay[:, t].exp()[..., None, None]
    before = (((1 - lam[:, t]) * dt[:, t])[..., None] * state.v)[..., None] * state.k[..., None, :]
    now = ((lam[:, t] * dt[:, t])[..., None] * v[:, t])[..., None] * key[..., None, :]
    s = decay * (state.s + before) + now
    y = (s * query[..., None, :]).sum(-1) + d.to(v.dtype)[:, None] * v[:, t]
    return y, ScanState(theta, s, key, v[:, t])


def _like(mask: Tensor, part: Tensor) -> Tensor:
    """(b,) with as many axes as ``part``."""
    return mask.view(-1, *([1] * (part.dim() - 1)))
