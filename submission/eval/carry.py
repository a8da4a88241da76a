"""Reading a chunk as one stream: the Mamba-3 state and the last keys and values go from window to window.

The cache holds a fixed number of keys, so shapes never change: those of the last ``keys`` tokens, turned back by one
window after each, because a window's first new token stands at position ``keys`` of the rotary embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..model.attention import KVCache, rotate_halves
from ..model.hybrid import ModelState
from ..scan.inputs import ScanState

Read = Callable[[Tensor, ModelState | None], tuple[Tensor, ModelState]]


def trimmed(state: ModelState, keys: int, read: int, rope_base: float) -> ModelState:
    """``state`` after ``read`` new tokens, its caches cut to the last ``keys`` tokens and turned back by ``read``."""
    return tuple(_trim(part, keys, read, rope_base) if isinstance(part, KVCache) else part for part in state)


def _trim(cache: KVCache, keys: int, read: int, rope_base: float) -> KVCache:
    k, v = cache.k[:, :, cache.k.shape[2] - keys :], cache.v[:, :, cache.v.shape[2] - keys :]
    half = k.shape[-1] // 2
    wide = torch.float64 if k.dtype == torch.float64 else torch.float32
    angles = -read * rope_base ** (-torch.arange(half, device=k.device, dtype=wide) / half)
    return KVCache(
        rotate_halves(k.to(wide), angles.cos(), angles.sin()).to(k.dtype),
        v,
        cache.document[:, max(0, cache.document.shape[1] - keys) :],
    )


def initial_state(read: Read, keys: int, bos: int, rope_base: float, device: torch.device) -> ModelState:
    """The state after ``keys`` document starts: what stands before the first token of the stream."""
    tokens = torch.full((1, max(1, keys)), bos, device=device)
    _, state = read(tokens, None)
    return trimmed(state, keys, tokens.shape[1] - keys, rope_base)


def read_stream(
    read: Read, windows: Tensor, state: ModelState, keys: int, rope_base: float
) -> tuple[list[Tensor], list[ModelState]]:
    """Hidden states of each window (1, length, D), and the states before each window and after the last."""
    hidden, states = [], [state]
    for window in windows:
        rows, state = read(window[None], state)
        state = trimmed(state, keys, len(window), rope_base)
        hidden.append(rows)
        states.append(state)
    return hidden, states


def stacked(states: list[ModelState]) -> ModelState:
    """States of single sequences as one of a batch."""
    parts = zip(*states, strict=True)
    return tuple(type(p[0])(*(torch.cat(fields) for fields in zip(*p, strict=True))) for p in parts)


def named(state: ModelState) -> dict[str, Tensor]:
    """Every tensor of a state by name."""
    return {f"carry/{i}/{field}": getattr(part, field) for i, part in enumerate(state) for field in part._fields}


def from_named(buffers: Mapping[str, Tensor], like: ModelState) -> ModelState:
    """The inverse of ``named``."""
    parts = enumerate(like)
    return tuple(type(part)(*(buffers[f"carry/{i}/{field}"] for field in part._fields)) for i, part in parts)


def decayed(state: ModelState, factor: float) -> ModelState:
    """Mamba-3 states scaled by ``factor``: what older weights wrote counts less."""
    return tuple(p._replace(s=p.s * factor, v=p.v * factor) if isinstance(p, ScanState) else p for p in state)
