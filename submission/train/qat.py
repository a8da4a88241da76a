"""Late QAT by exchange: forward and backward see quantised weights, the update the masters; nothing recompiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..config import Config
from ..package.grid import fake_quantise, is_quantised, row_bits


class QuantisedWeights:
    """The matrices that the packer will quantise, with the bits of their rows."""

    def __init__(self, model: nn.Module, config: Config) -> None:
        self._entries: list[tuple[nn.Parameter, Tensor]] = [
            (p, row_bits(name, p.shape, config).to(p.device))
            for name, p in model.named_parameters()
            if is_quantised(name, p.shape)
        ]

    @contextmanager
    def in_place(self, active: bool) -> Iterator[None]:
        """Weights take their quantised values inside the block and their own again after it."""
        if not active:
            yield
            return
        with torch.no_grad():
            masters = [p.detach().clone() for p, _ in self._entries]
            for p, bits in self._entries:
                p.copy_(fake_quantise(p, bits))
        try:
            yield
        finally:
            with torch.no_grad():
                for (p, _), master in zip(self._entries, masters, strict=True):
                    p.copy_(master)
