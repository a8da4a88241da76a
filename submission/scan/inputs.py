"""What both forms of the Mamba-3 scan take and carry.

Shapes: b batch, L length, H heads, P head width, N state width, R rotation angles (2R <= N).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ScanState(NamedTuple):
    """Carried state after some token; all four parts belong together because S and k live in the rotated frame.

    theta: (b, H, R) angle, radians modulo 2π; s: (b, H, P, N); k: (b, H, N) last key, biased and rotated;
    v: (b, H, P) last value.
    """

    theta: Tensor
    s: Tensor
    k: Tensor
    v: Tensor


class ScanInputs(NamedTuple):
    """Per-token quantities, before rotation.

    q, k: (b, L, H, N) normalised and biased; v: (b, L, H, P); log_decay: a = A·dt <= 0, dt: step, lam: λ in (0, 1),
    each (b, L, H); omega: angular velocity π·tanh(angles), (b, L, R), shared by the heads; d: (H,) skip weight;
    reset: (b, L) bool, True where a document starts: the state before that token counts as zero. None: nowhere.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    dt: Tensor
    lam: Tensor
    omega: Tensor
    d: Tensor
    reset: Tensor | None = None


def zero_state(batch: int, heads: int, width: int, state: int, angles: int, like: Tensor) -> ScanState:
    """The state before the first token, with the dtype and device of ``like``."""
    return ScanState(
        like.new_zeros(batch, heads, angles),
        like.new_zeros(batch, heads, width, state),
        like.new_zeros(batch, heads, state),
        like.new_zeros(batch, heads, width),
    )


def rotate(x: Tensor, theta: Tensor) -> Tensor:
    """Turn neighbouring pairs (2i, 2i+1) of ``x`` (…, N) by ``theta`` (…, R); components from 2R on stay."""
    angles = theta.shape[-1]
    pairs = x[..., : 2 * angles].reshape(*x.shape[:-1], angles, 2)
    even, odd = pairs.unbind(-1)
    cos, sin = theta.cos(), theta.sin()
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    return torch.cat((turned, x[..., 2 * angles :]), -1)
