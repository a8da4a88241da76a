"""Causal grouped-query attention with rotary positions.

Shapes: b batch, L length, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import Config
from .attend import attend
from .layers import Linear, rms


class Attention(nn.Module):
    """q and k RMS-normalised per head, RoPE on halves, a learned gain a query head, values gated by their sigmoid.

    With ``qk_offset`` half of a key comes from the token before, so that one layer finds what followed a token earlier
    on: without it that takes two layers, which training finds late.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.model_dim // config.num_heads
        width, kv_width = config.model_dim, self.kv_heads * self.head_dim
        self.q = Linear(width, width)
        self.k = Linear(width, kv_width)
        self.v = Linear(width, kv_width)
        self.out = Linear(width, width, zero=True)
        self.q_gain = nn.Parameter(torch.full((self.heads,), config.qk_gain_init))
        self.rope_base, self.qk_offset = config.rope_base, config.qk_offset

    def forward(self, x: Tensor, starts: Tensor | None = None) -> Tensor:
        """(b, L, width) → (b, L, width).

        starts: (b, L) bool, the first tokens of documents, before which nothing is seen; None: attention sees all
        """
        b, length, _ = x.shape
        q = rms(self.q(x).view(b, length, self.heads, self.head_dim))
        k = rms(self.k(x).view(b, length, self.kv_heads, self.head_dim))
        if self.qk_offset:
            before = F.pad(k[:, :-1], (0, 0, 0, 0, 1, 0))
            k = offset_keys(k, before if starts is None else before.masked_fill(starts[..., None, None], 0.0))
        v = self.v(x).view(b, length, self.kv_heads, self.head_dim)
        v = v * v.sigmoid()
        cos, sin = rotary_table(length, self.head_dim // 2, self.rope_base, x.detach())
        q = rotate_halves(q, cos, sin) * self.q_gain.to(q.dtype)[:, None]
        k = rotate_halves(k, cos, sin)
        document = None if starts is None else starts.cumsum(1, dtype=torch.int32)
        y = attend(q.to(v.dtype), k.to(v.dtype), v, document)
        out: Tensor = self.out(y.reshape(b, length, -1))
        return out


@torch.library.custom_op("golf::rotary_table", mutates_args=())
def rotary_table(length: int, half: int, base: float, like: Tensor) -> Tensor:
    """cos and sin (2, L, 1, E/2), in the dtype of ``like``.

    An operator of its own: the compiler would compute every angle again wherever it is used, forward and backward.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(half, device=like.device, dtype=dtype) / half)
    angles = torch.arange(length, device=like.device, dtype=dtype)[:, None, None] * rates
    return torch.stack((angles.cos(), angles.sin())).to(like.dtype)


@rotary_table.register_fake
def _(length: int, half: int, _base: float, like: Tensor) -> Tensor:
    return like.new_empty(2, length, 1, half)


def offset_keys(k: Tensor, before: Tensor) -> Tensor:
    """Keys (…, E) whose components E/4 to E/2 of each half, which RoPE turns slowly, are those of ``before`` (…, E)."""
    own, old = (x.reshape(*x.shape[:-1], 2, 2, -1) for x in (k, before))
    return torch.stack((own[..., 0, :], old[..., 1, :]), -2).flatten(-3)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE that pairs component i with i + E/2; x is (b, L, heads, E), cos and sin are (L, 1, E/2)."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
