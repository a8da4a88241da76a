"""Causal grouped-query attention with rotary positions, and its cache.

Shapes: b batch, L length, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import Config
from .layers import orthogonal_linear, rms


class KVCache(NamedTuple):
    """Keys (already rotated) and values of all earlier tokens: (b, K, T, E) each."""

    k: Tensor
    v: Tensor


class Attention(nn.Module):
    """q and k RMS-normalised per head, RoPE on halves, a learned gain a query head, values gated by their sigmoid."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.model_dim // config.num_heads
        width, kv_width = config.model_dim, self.kv_heads * self.head_dim
        self.q = orthogonal_linear(width, width)
        self.k = orthogonal_linear(width, kv_width)
        self.v = orthogonal_linear(width, kv_width)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        self.q_gain = nn.Parameter(torch.full((self.heads,), config.qk_gain_init))
        self.rope_base = config.rope_base

    def forward(self, x: Tensor, cache: KVCache | None = None) -> tuple[Tensor, KVCache]:
        """(b, L, width) → (b, L, width) and the cache that includes these tokens."""
        b, length, _ = x.shape
        past = 0 if cache is None else cache.k.shape[2]
        q = rms(self.q(x).view(b, length, self.heads, self.head_dim)).transpose(1, 2)
        k = rms(self.k(x).view(b, length, self.kv_heads, self.head_dim)).transpose(1, 2)
        v = self.v(x).view(b, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = v * v.sigmoid()
        cos, sin = self._angles(past, length, x)
        q = rotate_halves(q, cos, sin) * self.q_gain.to(q.dtype)[:, None, None]
        k = rotate_halves(k, cos, sin)
        if cache is not None:
            k, v = torch.cat((cache.k, k), 2), torch.cat((cache.v, v), 2)
        y = self._attend(q.to(v.dtype), k.to(v.dtype), v, past)
        return self.out(y.transpose(1, 2).reshape(b, length, -1)), KVCache(k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, past: int) -> Tensor:
        length = q.shape[2]
        if past == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        mask = torch.ones(length, past + length, dtype=torch.bool, device=q.device).tril(past)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    def _angles(self, start: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        half = self.head_dim // 2
        rates = self.rope_base ** (-torch.arange(half, device=like.device, dtype=dtype) / half)
        angles = torch.arange(start, start + length, device=like.device, dtype=dtype)[:, None] * rates
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE that pairs component i with i + E/2; cos and sin are (L, E/2)."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
