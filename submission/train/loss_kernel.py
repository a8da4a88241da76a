# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""The Triton kernel of the fused loss: a row of raw logits becomes its loss, and in place its gradient."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

WARPS = 8


def losses_and_gradients(logits: Tensor, targets: Tensor, losses: Tensor, cap: float, scale: float) -> None:
    """logits (n, V), raw, become ``scale`` times the gradient of each row's loss; losses (n,) float32 are written."""
    n, vocab = logits.shape
    block = triton.next_power_of_2(vocab)
    _row[(n,)](logits, targets, losses, cap, scale, vocab, BLOCK=block, num_warps=WARPS)


@triton.jit
def _row(logits_ptr, targets_ptr, losses_ptr, cap, scale, vocab, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < vocab
    raw = tl.load(logits_ptr + row * vocab + column, mask=inside, other=0.0).to(tl.float32)
    squashed = 2 * tl.sigmoid(2 * raw / cap) - 1
    capped = tl.where(inside, cap * squashed, -float("inf"))
    largest = tl.max(capped, 0)
    power = tl.exp(capped - largest)
    total = tl.sum(power, 0)
    target = tl.load(targets_ptr + row)
    hit = column == target
    tl.store(losses_ptr + row, tl.log(total) + largest - tl.sum(tl.where(hit, capped, 0.0), 0))
    gradient = (power / total - tl.where(hit, 1.0, 0.0)) * (1 - squashed * squashed) * scale
    tl.store(logits_ptr + row * vocab + column, gradient.to(logits_ptr.dtype.element_ty), mask=inside)
