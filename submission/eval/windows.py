"""A flat chunk as windows for the model: each with its new tokens and some context re-read before them."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_windows(context: Tensor, tokens: Tensor, length: int) -> Tensor:
    """Windows (n, length) over ``tokens``, int64 (t,), each preceded by len(context) tokens before its own.

    context: the tokens just before the chunk, int64 (overlap,). Each window brings length - overlap new tokens; the
    last one is filled up with zeros at its end, which no earlier position can see.
    """
    stride = length - len(context)
    stream = torch.cat((context, tokens, tokens.new_zeros(-len(tokens) % stride)))
    return stream.unfold(0, length, stride)


def new_positions(values: Tensor, overlap: int, count: int) -> Tensor:
    """The rows of new tokens, in stream order: (n, length, …) → (count, …)."""
    return values[:, overlap:].flatten(0, 1)[:count]
