# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""The Triton kernel of the fused loss: a row of raw logits becomes its loss, and in place its gradient."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

WARPS = 8


def losses_and_gradients(logits: Tensor, targets: Tensor, losses: Tensor, cap: float) -> None:
    """logits (n, V), raw, become the gradient of each row's loss; losses (n,) float32 are written.

    A negative target counts nothing: loss and gradient of its row are zero.
    """
    n, vocab = logits.shape
    block = triton.next_power_of_2(vocab)
    _row[(n,)](logits, targets, losses, cap, vocab, BLOCK=block, num_warps=WARPS)


@triton.jit
def _row(logits_ptr, targets_ptr, losses_ptr, cap, vocab, BLOCK: tl.constexpr):
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
    counted = tl.where(target < 0, 0.0, 1.0)
    hit = column == target
    tl.store(losses_ptr + row, (tl.log(total) + largest - tl.sum(tl.where(hit, capped, 0.0), 0)) * counted)
    gradient = (power / total - tl.where(hit, 1.0, 0.0)) * (1 - squashed * squashed) * counted
    tl.store(logits_ptr + row * vocab + column, gradient.to(logits_ptr.dtype.element_ty), mask=inside)
