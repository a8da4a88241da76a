"""Causal grouped-query attention with rotary positions, and its cache.

Shapes: b batch, L length, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import Config
from .attend import attend
from .layers import Linear, rms


class KVCache(NamedTuple):
    """Keys (already rotated) and values of all earlier tokens: (b, K, T, E) each.

    document: int32 (b, T), 0 for tokens of the document of the last one, -1 for the one before, …; (b, 0) where
    attention does not end at documents
    """

    k: Tensor
    v: Tensor
    document: Tensor


class Attention(nn.Module):
    """q and k RMS-normalised per head, RoPE on halves, a learned gain a query head, values gated by their sigmoid."""

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
        self.rope_base = config.rope_base

    def forward(
        self,
        x: Tensor,
        cache: KVCache | None = None,
        carry: bool = True,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, KVCache | None]:
        """(b, L, width) → (b, L, width) and, where ``carry``, the cache with these tokens.

        starts: (b, L) bool, the first tokens of documents, before which nothing is seen; None: attention sees all
        """
        b, length, _ = x.shape
        past = 0 if cache is None else cache.k.shape[2]
        q = rms(self.q(x).view(b, length, self.heads, self.head_dim))
        k = rms(self.k(x).view(b, length, self.kv_heads, self.head_dim))
        v = self.v(x).view(b, length, self.kv_heads, self.head_dim)
        v = v * v.sigmoid()
        cos, sin = rotary_table(past, length, self.head_dim // 2, self.rope_base, x.detach())
        q = rotate_halves(q, cos, sin) * self.q_gain.to(q.dtype)[:, None]
        k = rotate_halves(k, cos, sin).to(v.dtype)
        keys, values = k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            keys, values = torch.cat((cache.k, keys), 2), torch.cat((cache.v, values), 2)
        document = x.new_zeros(b, 0, dtype=torch.int32)
        if starts is not None:
            own = starts.cumsum(1, dtype=torch.int32)
            document = own if cache is None else torch.cat((cache.document, own), 1)
        y = attend(q.to(v.dtype), keys.transpose(1, 2), values.transpose(1, 2), None if starts is None else document)
        new_cache = KVCache(keys, values, document - document[:, -1:]) if carry else None
        return self.out(y.reshape(b, length, -1)), new_cache


@torch.library.custom_op("golf::rotary_table", mutates_args=())
def rotary_table(start: int, length: int, half: int, base: float, like: Tensor) -> Tensor:
    """cos and sin (2, L, 1, E/2) of positions from ``start``, in the dtype of ``like``.

    An operator of its own: the compiler would compute every angle again wherever it is used, forward and backward.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(half, device=like.device, dtype=dtype) / half)
    angles = torch.arange(start, start + length, device=like.device, dtype=dtype)[:, None, None] * rates
    return torch.stack((angles.cos(), angles.sin())).to(like.dtype)


@rotary_table.register_fake
def _(_start: int, length: int, half: int, _base: float, like: Tensor) -> Tensor:
    return like.new_empty(2, length, 1, half)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE that pairs component i with i + E/2; x is (b, L, heads, E), cos and sin are (L, 1, E/2)."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
