"""One token at a time with state of fixed shape: what a CUDA graph can replay."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import BOS
from ..scan.inputs import ScanState, rotate
from .attention import Attention, offset_keys, rotate_halves
from .hybrid import Block, Hybrid
from .layers import rms
from .mamba3 import Mamba3


class Cache(NamedTuple):
    """Rotated keys and values of up to T tokens, (b, K, T, E) each; the last key before turning, (b, K, 1, E)."""

    k: Tensor
    v: Tensor
    last: Tensor


class Decoder:
    """Decodes ``batch`` sequences of at most ``length`` tokens in step; all state is changed in place."""

    def __init__(self, model: Hybrid, batch: int, length: int) -> None:
        self.model, self.length = model, length
        device = model.embedding.weight.device
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self._places = torch.arange(length, device=device)
        self._start = torch.zeros(
            batch, 1, 1, 1, dtype=torch.int64, device=device
        )  # of the document, where that counts
        like = model.embedding.weight.detach().new_empty(0)
        self._states: list[ScanState | Cache] = []
        for block in self._blocks():
            mixer = block.mixer
            if isinstance(mixer, Mamba3):
                self._states.append(mixer.zero_state(batch, like))
            else:
                shapes = ((batch, mixer.kv_heads, tokens, mixer.head_dim) for tokens in (length, length, 1))
                self._states.append(Cache(*(like.new_zeros(shape) for shape in shapes)))

    def reset(self) -> None:
        """Back to the start of the sequences."""
        self.position.zero_()
        self._start.zero_()
        for state in self._states:
            for part in state:
                part.zero_()

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits (b, V) after ``tokens`` (b,), the next ones of all sequences."""
        model = self.model
        if model.config.document_reset:
            self._begin(tokens == BOS)
        x0 = rms(model.embedding(tokens))
        x = x0
        stack: list[Tensor] = []
        for index, block in enumerate(self._blocks()):
            if model.skips <= index < 2 * model.skips:
                x = x + model.skip_weights[index - model.skips] * stack.pop()
            x = block.mix[0] * x + block.mix[1] * x0
            state = self._states[index]
            if isinstance(state, Cache):
                mixed = self._attend(cast(Attention, block.mixer), rms(x), state)
            else:
                mixed = _scan(cast(Mamba3, block.mixer), rms(x), state)
            x = x + block.mixer_scale * mixed
            x = x + block.mlp_scale * block.mlp(rms(x))
            if index < model.skips:
                stack.append(x)
        self.position += 1
        return model.logits(rms(x))

    def _begin(self, starts: Tensor) -> None:
        """A new document where ``starts`` (b,): nothing before this token is seen."""
        self._start.copy_(torch.where(starts[:, None, None, None], self.position, self._start))
        for state in self._states:
            for part in state if isinstance(state, ScanState) else (state.last,):
                part.masked_fill_(starts.view(-1, *([1] * (part.dim() - 1))), 0.0)

    def _blocks(self) -> list[Block]:
        return [cast(Block, block) for block in self.model.blocks]

    def _attend(self, layer: Attention, x: Tensor, cache: Cache) -> Tensor:
        b, width = layer.kv_heads, layer.head_dim
        q = rms(layer.q(x).view(len(x), b, -1, width))
        k, v = rms(layer.k(x).view(len(x), b, 1, width)), layer.v(x).view(len(x), b, 1, width)
        if layer.qk_offset:
            own, k = k, offset_keys(k, cache.last)
            cache.last.copy_(own)
        half = width // 2
        rates = layer.rope_base ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
        angles = self.position[:, None] * rates
        cos, sin = angles.cos(), angles.sin()
        gain = layer.q_gain.view(b, -1, 1)
        cache.k.index_copy_(2, self.position, rotate_halves(k, cos, sin))
        cache.v.index_copy_(2, self.position, v * v.sigmoid())
        scores = (rotate_halves(q, cos, sin) * gain) @ cache.k.mT / math.sqrt(width)
        hidden = (self._places > self.position) | (self._places < self._start)
        weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
        out: Tensor = layer.out((weights @ cache.v).reshape(len(x), -1))
        return out


def _scan(layer: Mamba3, x: Tensor, state: ScanState) -> Tensor:
    """One step of the recurrence as a rank-two update of S, which is changed in place."""
    inputs, gate = layer.scan_inputs(x[:, None])
    q, k, v, log_decay, dt, lam, omega = (part[:, 0] for part in inputs[:7] if part is not None)
    theta = (state.theta + omega[:, None] * dt[..., None]) % (2 * math.pi)
    key, query = rotate(k, theta), rotate(q, theta)
    decay = log_decay.exp()
    left = torch.stack(((decay * (1 - lam) * dt)[..., None] * state.v, (lam * dt)[..., None] * v), -1)
    right = torch.stack((state.k, key), -2)
    state.s.mul_(decay[..., None, None]).add_(left @ right)
    for kept, new in zip((state.theta, state.k, state.v), (theta, key, v), strict=True):
        kept.copy_(new)
    y = (state.s @ query[..., None])[..., 0] + inputs.d[:, None] * v
    out: Tensor = layer.out_proj((y * F.silu(gate[:, 0])).flatten(1))
    return out
