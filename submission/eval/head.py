"""From hidden rows to logits and to the loss, slab by slab, so that (tokens, vocabulary) never exists as a whole.

With V = 8192 a chunk of 131,072 tokens has 1.07 G logits. The loss computes its gradients in the same pass over a slab.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .windows import IGNORED


def capped_logits(hidden: Tensor, embedding: Tensor, cap: float) -> Tensor:
    """cap · tanh(h Eᵀ / cap), (rows, V) in the dtype of ``hidden``."""
    return cap * torch.tanh(hidden @ embedding.to(hidden.dtype).T / cap)


def slab_loss(hidden: Tensor, embedding: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss of a slab in nats, and its gradients for ``hidden`` (rows, D) and ``embedding`` (V, D).

    Products run in the dtype of ``hidden``; the softmax and the sum in float32 or better. IGNORED targets count zero.
    """
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    squashed = torch.tanh((hidden @ embedding.T).to(wide) / cap)
    logits = cap * squashed
    counted = targets != IGNORED
    chosen = targets.clamp(min=0)[:, None]
    normaliser = torch.logsumexp(logits, 1)
    loss = torch.where(counted, normaliser - logits.gather(1, chosen)[:, 0], 0.0).sum()
    error = (logits - normaliser[:, None]).exp().scatter_add(1, chosen, -torch.ones_like(normaliser)[:, None])
    error = (error * (1 - squashed.square()) * counted[:, None]).to(hidden.dtype)
    return loss, error @ embedding, (error.T @ hidden).to(wide)


class HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of (rows, D) hidden states through the tied, soft-capped head."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, cap: float, slab_rows: int, slab: Any
    ) -> Tensor:
        """The loss; both gradients are computed here and kept."""
        matrix = embedding.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_embedding = torch.zeros_like(embedding)
        total = torch.zeros((), dtype=grad_embedding.dtype, device=hidden.device)
        for start in range(0, len(hidden), slab_rows):
            rows = slice(start, start + slab_rows)
            loss, grad_hidden[rows], part = slab(hidden[rows], matrix, targets[rows], cap)
            grad_embedding += part
            total += loss
        ctx.save_for_backward(grad_hidden, grad_embedding)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The kept gradients, scaled."""
        grad_hidden, grad_embedding = ctx.saved_tensors
        (scale,) = grad_outputs
        return grad_hidden * scale.to(grad_hidden.dtype), grad_embedding * scale, None, None, None, None


def reference_loss(hidden: Tensor, embedding: Tensor, targets: Tensor, cap: float) -> Tensor:
    """The same sum by the library's own cross-entropy: the definition that ``HeadLoss`` is tested against."""
    return F.cross_entropy(capped_logits(hidden, embedding, cap), targets, ignore_index=IGNORED, reduction="sum")
