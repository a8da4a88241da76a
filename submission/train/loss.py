"""Linear head, soft cap and cross-entropy in one: the logits of all tokens never exist together.

The gradients come with the forward pass, a slab of tokens at a time: a slab's logits become their gradient in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # a target that does not count
SLAB_ELEMENTS = {"cuda": 1 << 27, "cpu": 1 << 18}  # logits of one slab: 256 MiB in 16 bits; 1 MiB in 32, for a cache


def softcap_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Sum of -ln p(target), nats, float32 or better, where p = softmax(cap · tanh(h Eᵀ / cap)).

    hidden: (n, width); weight: (V, width), used in ``hidden``'s dtype; targets: int64 (n,), IGNORED ones count zero.
    The gradient at ``weight`` is accumulated in float32 or better.
    """
    loss: Tensor = torch.ops.golf.softcap_loss(hidden, weight, targets, cap)[0]
    return loss


@torch.library.custom_op("golf::softcap_loss", mutates_args=())
def _softcap_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss, and its gradients at ``hidden`` and at ``weight``."""
    matrix, wide = weight.to(hidden.dtype), _wide(hidden)
    losses = hidden.new_empty(len(hidden), dtype=wide)
    dhidden = torch.empty_like(hidden)
    dweight = torch.zeros_like(weight, dtype=wide)
    rows = max(1, SLAB_ELEMENTS[hidden.device.type] // len(weight))
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows]
        logits = part @ matrix.T
        _losses_and_gradients(logits, targets[start : start + rows], losses[start : start + rows], cap)
        torch.mm(logits, matrix, out=dhidden[start : start + rows])
        # the products of 16-bit numbers are summed in 32 bits, which only a GPU's own product can be asked for
        dweight += torch.mm(logits.T, part, out_dtype=wide) if hidden.is_cuda else (logits.T @ part).to(wide)
    return losses.sum(), dhidden, dweight


@_softcap_loss.register_fake
def _(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    wide = _wide(hidden)
    return hidden.new_empty((), dtype=wide), torch.empty_like(hidden), torch.empty_like(weight, dtype=wide)


def _wide(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _losses_and_gradients(logits: Tensor, targets: Tensor, losses: Tensor, cap: float) -> None:
    """logits (n, V), raw, become the gradient of each row's loss; losses (n,) are written."""
    if logits.is_cuda:
        from .loss_kernel import losses_and_gradients

        losses_and_gradients(logits, targets, losses, cap)
        return
    squashed = logits.to(losses.dtype).div_(cap).tanh_()  # in place wherever it goes: this is memory traffic
    log_p = torch.log_softmax(cap * squashed, 1)
    counted, chosen = targets != IGNORED, targets.clamp(min=0)[:, None]
    losses.copy_(torch.where(counted, -log_p.gather(1, chosen)[:, 0], 0.0))
    error = log_p.exp_().scatter_add_(1, chosen, losses.new_full((len(losses), 1), -1.0)).mul_(counted[:, None])
    torch.mul(error, 1 - squashed.square_(), out=logits)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], output[2])
    ctx.weight_dtype = inputs[1].dtype


def _backward(ctx: Any, dloss: Tensor, _dhidden: Tensor, _dweight: Tensor) -> tuple[Tensor | None, ...]:
    dhidden, dweight = ctx.saved_tensors
    return (dhidden * dloss.to(dhidden.dtype), (dweight * dloss).to(ctx.weight_dtype), None, None)


_softcap_loss.register_autograd(_backward, setup_context=_keep)
