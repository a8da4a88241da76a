# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""The Triton kernel of the fused loss: a row of raw logits becomes its loss, and in place its gradient."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

NEAR_CAP = 40.0  # e^-2·40 is far above the least float32


def losses_and_gradients(logits: Tensor, targets: Tensor, losses: Tensor, cap: float) -> None:
    """logits (n, V), raw, become the gradient of each row's loss; losses (n,) float32 are written.

    A negative target counts nothing: loss and gradient of its row are zero.
    """
    n, vocab = logits.shape
    block = triton.next_power_of_2(vocab)
    _row[(n,)](logits, targets, losses, cap, 2 / cap, vocab, BLOCK=block, NEAR=cap <= NEAR_CAP, num_warps=8, maxnreg=96)


@triton.jit
def _row(logits_ptr, targets_ptr, losses_ptr, cap, slope, vocab, BLOCK: tl.constexpr, NEAR: tl.constexpr):
    """Where the cap is near, powers are of the distance to it: no pass over the row for its maximum."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < vocab
    target = tl.load(targets_ptr + row)
    counted = tl.where(target < 0, 0.0, 1.0)
    wanted = tl.load(logits_ptr + row * vocab + tl.maximum(target, 0)).to(tl.float32)
    raw = tl.load(logits_ptr + row * vocab + column, mask=inside, other=0.0).to(tl.float32)
    squashed = 2 * tl.sigmoid(raw * slope) - 1
    largest = cap if NEAR else cap * tl.max(tl.where(inside, squashed, -1.0), 0)
    power = tl.where(inside, tl.exp(cap * squashed - largest), 0.0)
    total = tl.sum(power, 0)
    chosen = 2 * tl.sigmoid(wanted * slope) - 1
    tl.store(losses_ptr + row, (tl.log(total) + largest - cap * chosen) * counted)
    gradient = (power * (counted / total) - tl.where(column == target, counted, 0.0)) * (1 - squashed * squashed)
    tl.store(logits_ptr + row * vocab + column, gradient.to(logits_ptr.dtype.element_ty), mask=inside)
