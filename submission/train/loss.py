"""Linear head, soft cap and cross-entropy in one: the logits of all tokens never exist together.

The gradients are computed in the forward pass, a slab of tokens at a time: a slab's logits are turned into their
gradient in place by one Triton kernel, which reads and writes them once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SLAB = 16_384  # tokens; 256 MiB of 16-bit logits at 8,192 tokens of vocabulary


def softcap_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Mean of -ln p(target), nats, where p = softmax(cap · tanh(h Eᵀ / cap)).

    hidden: (n, width); weight: (V, width); targets: int64 (n,). On a CPU plain PyTorch, on a GPU the fused operator.
    """
    if not hidden.is_cuda:
        logits = cap * torch.tanh(hidden @ weight.to(hidden.dtype).T / cap)
        return F.cross_entropy(logits.float() if logits.dtype != torch.float64 else logits, targets)
    loss: Tensor = torch.ops.golf.softcap_loss(hidden, weight.to(hidden.dtype), targets, cap)[0]
    return loss


@torch.library.custom_op("golf::softcap_loss", mutates_args=())
def _softcap_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean loss, and its gradients at ``hidden`` and (float32) at ``weight``."""
    from .loss_kernel import losses_and_gradients

    n = len(hidden)
    losses = hidden.new_empty(n, dtype=torch.float32)
    dhidden = torch.empty_like(hidden)
    dweight = torch.zeros_like(weight, dtype=torch.float32)
    for start in range(0, n, SLAB):
        part = hidden[start : start + SLAB]
        logits = part @ weight.T
        losses_and_gradients(logits, targets[start : start + SLAB], losses[start : start + SLAB], cap, 1 / n)
        torch.mm(logits, weight, out=dhidden[start : start + SLAB])
        dweight += torch.mm(logits.T, part, out_dtype=torch.float32)
    return losses.mean(), dhidden, dweight


@_softcap_loss.register_fake
def _(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    loss = hidden.new_empty((), dtype=torch.float32)
    return loss, torch.empty_like(hidden), torch.empty_like(weight, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], output[2])


def _backward(ctx: Any, dloss: Tensor, _dhidden: Tensor, _dweight: Tensor) -> tuple[Tensor | None, ...]:
    dhidden, dweight = ctx.saved_tensors
    return (dhidden * dloss.to(dhidden.dtype), (dweight * dloss).to(dhidden.dtype), None, None)


_softcap_loss.register_autograd(_backward, setup_context=_keep)
