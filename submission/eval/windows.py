"""A flat chunk as windows for the model: each with its new tokens and some context re-read before them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..train.loss import IGNORED


class Cut(NamedTuple):
    """How a chunk is read: windows of ``length`` tokens, of which the first ``overlap`` were read before."""

    length: int
    overlap: int

    @property
    def stride(self) -> int:
        """New tokens of a window."""
        return self.length - self.overlap

    def count(self, tokens: int) -> int:
        """Windows that hold ``tokens`` new tokens."""
        return -(-tokens // self.stride)


def cut_windows(context: Tensor, tokens: Tensor, cut: Cut, windows: int = 0) -> Tensor:
    """Windows (n, length) over ``tokens``, int64 (t,), each preceded by ``cut.overlap`` tokens before its own.

    context: at least ``cut.overlap`` tokens just before the chunk, int64; windows: at least so many. Zeros fill up the
    last window at its end, which no earlier position can see.
    """
    missing = max(windows, cut.count(len(tokens))) * cut.stride - len(tokens)
    before = context[len(context) - cut.overlap :]
    stream = torch.cat((before, tokens, tokens.new_zeros(missing)))
    return stream.unfold(0, cut.length, cut.stride).contiguous()  # one layout, so that one compiled graph serves all


def cut_targets(targets: Tensor, cut: Cut, windows: int = 0) -> Tensor:
    """Targets of ``cut_windows``, (n, length); IGNORED where a position is context or filling."""
    missing = max(windows, cut.count(len(targets))) * cut.stride - len(targets)
    new = torch.cat((targets, targets.new_full((missing,), IGNORED))).view(-1, cut.stride)
    return torch.cat((new.new_full((len(new), cut.overlap), IGNORED), new), 1)


def new_positions(values: Tensor, cut: Cut, count: int) -> Tensor:
    """The rows of new tokens, in stream order: (n, length, …) → (count, …)."""
    return values[:, cut.overlap :].flatten(0, 1)[:count]
