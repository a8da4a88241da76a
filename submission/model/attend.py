"""Causal attention by PyTorch's own kernels: on an H100 or H200 cuDNN's, 1.5 times as fast as ``flash-attn`` 2 there.

Shapes: b batch, L new tokens, T = past + L all tokens, H query heads, K key/value heads (K divides H), E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention_backend(device: torch.device) -> str:
    """Name of the back end that ``attend`` uses on ``device`` for 16-bit inputs."""
    return "sdpa-cudnn" if device.type == "cuda" else "sdpa"


def prefer_cudnn() -> None:
    """Let PyTorch take cuDNN's attention, not its flash kernels."""
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(True)


def attend(q: Tensor, k: Tensor, v: Tensor, document: Tensor | None = None) -> Tensor:
    """Token i of the L new ones sees the keys up to past + i. q: (b, L, H, E); k, v: (b, T, K, E) → (b, L, H, E).

    document: (b, T) numbers of documents; then it sees only keys of its own
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    length, total = q.shape[2], k.shape[2]
    if document is not None:
        causal = torch.ones(length, total, dtype=torch.bool, device=q.device).tril(total - length)
        same = document[:, total - length :, None] == document[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=(causal & same)[:, None], enable_gqa=True)
    elif length == total:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    elif length == 1:
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    else:
        mask = torch.ones(length, total, dtype=torch.bool, device=q.device).tril(total - length)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return y.transpose(1, 2)
