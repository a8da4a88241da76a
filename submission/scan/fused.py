"""The project's own Triton kernels as PyTorch operators: compiled graphs call them without a break.

Everything that is cheap stays outside, in PyTorch, where the compiler fuses it: step sizes, decays, weights, norms.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .inputs import ScanInputs, ScanState, rotate

CHUNK = 64
RESET_LOG_DECAY = -40.0  # e^-40 is nothing beside float32's 6e-8, and sums of a few keep six digits
FORWARD_WARPS, FORWARD_STAGES = 4, 2
BACKWARD_WARPS, BACKWARD_STAGES = 8, 1


def usable(heads: int, width: int, state: int, angles: int) -> bool:
    """Whether the kernels exist here and take these sizes: powers of two from 16 on."""
    powers = all(size >= 16 and size & (size - 1) == 0 for size in (width, state))
    return powers and heads > 0 and 0 < angles <= state // 2 and find_spec("triton") is not None


def fused_scan(inputs: ScanInputs, zv: Tensor, biases: tuple[Tensor, Tensor], state: ScanState | None, carry: bool) -> (
    tuple[Tensor, ScanState | None]
):  # fmt: skip
    """Scan, skip and gate.

    inputs: ``q`` and ``k`` (b, L, N) are normed and neither biased nor spread over heads; ``v`` is not read
    zv:     (b, L, 2·H·P), the gate's logits and the values; biases: of q and of k, (H, N) float32
    carry:  whether the state after the last token is wanted, with gradients through it
    Returns y (b, L, H·P), gated, and the state. At resets the state keeps its old frame of rotation, which changes no
    output.
    """
    q, k, _, log_decay, dt, lam, omega, d, reset = inputs
    heads = d.shape[0]
    width = zv.shape[-1] // (2 * heads)
    gamma, beta = lam * dt, (1 - lam) * dt
    if reset is not None:
        beta = beta.masked_fill(reset[..., None], 0.0)
        log_decay = log_decay.masked_fill(reset[..., None], RESET_LOG_DECAY)
    weight = gamma + torch.nn.functional.pad(beta[:, 1:], (0, 0, 0, 1))
    start = theta = None
    if state is not None:
        start = (state.s + (beta[:, 0, :, None] * state.v)[..., None] * state.k[..., None, :]).mT.float()
        theta = state.theta.float()
    by_head = [x.float().mT.contiguous() for x in (log_decay, dt, gamma, weight)]
    y, end, theta_end, _, _ = torch.ops.golf.siso_scan(
        q, k, zv, *by_head, omega.float(), *biases, d.float(), start, theta, torch.is_grad_enabled(), carry
    )
    if not carry:
        return y, None
    last_k = rotate(k[:, -1, None].float() + biases[1], theta_end)
    last_v = zv[:, -1].unflatten(-1, (2, heads, width))[:, 1]
    return y, ScanState(theta_end, end.mT, last_k, last_v)


@torch.library.custom_op("golf::siso_scan", mutates_args=())
def siso_scan(
    q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor, gamma: Tensor, weight: Tensor, omega: Tensor,
    q_bias: Tensor, k_bias: Tensor, d: Tensor, start: Tensor | None, theta: Tensor | None, keep: bool, carry: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y, state (b, H, N, P) and angle (b, H, R) at the end, and both at the start of each chunk where ``keep``."""
    from . import kernels

    y, end, theta_end, states, thetas = _outputs(q, zv, omega, d, keep)
    b, length, n = q.shape
    heads = len(d)
    width = zv.shape[-1] // (2 * heads)
    q, k, zv, omega = q.contiguous(), k.contiguous(), zv.contiguous(), omega.contiguous()
    z, v = zv[..., : heads * width], zv[..., heads * width :]
    kernels.scan_forward[(heads, b)](
        q, k, v, z, a, dt, gamma, weight, omega, q_bias.contiguous(), k_bias.contiguous(), d,
        end if start is None else start.contiguous(), theta_end if theta is None else theta.contiguous(),
        y, states, thetas, end, theta_end, length, v.stride(0), v.stride(1), z.stride(0), z.stride(1),
        H=heads, P=width, N=n, R=omega.shape[-1], Q=CHUNK, HAS_STATE=start is not None, KEEP=keep,
        num_warps=FORWARD_WARPS, num_stages=FORWARD_STAGES,
    )  # fmt: skip
    return y, end, theta_end, states, thetas


@siso_scan.register_fake
def _(q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, start, theta, keep, carry):  # type: ignore[no-untyped-def]
    return _outputs(q, zv, omega, d, keep)


def _outputs(q: Tensor, zv: Tensor, omega: Tensor, d: Tensor, keep: bool) -> tuple[Tensor, ...]:
    b, length, n = q.shape
    heads, r = d.shape[0], omega.shape[-1]
    width = zv.shape[-1] // (2 * heads)
    chunks = -(-length // CHUNK) if keep else 0
    return (
        zv.new_empty(b, length, heads * width),
        omega.new_empty(b, heads, n, width),
        omega.new_empty(b, heads, r),
        zv.new_empty(b, heads, chunks, n, width),
        omega.new_empty(b, heads, chunks, r),
    )


@torch.library.custom_op("golf::siso_scan_backward", mutates_args=())
def siso_scan_backward(
    dy: Tensor, dend: Tensor | None, dtheta_end: Tensor | None, q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor,
    gamma: Tensor, weight: Tensor, omega: Tensor, q_bias: Tensor, k_bias: Tensor, d: Tensor, states: Tensor,
    thetas: Tensor,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Gradients, still one share a head (dq, dk, domega) or a sequence (the biases' and d's)."""
    from . import kernels

    grads = _gradients(q, zv, a, omega, q_bias, d)
    dq, dk, dzv, da, ddt, dgamma, dweight, domega, dq_bias, dk_bias, dd, dstart, dtheta = grads
    b, length, n = q.shape
    heads = len(d)
    width = zv.shape[-1] // (2 * heads)
    q, k, zv, omega = q.contiguous(), k.contiguous(), zv.contiguous(), omega.contiguous()
    inner = heads * width
    z, v = zv[..., :inner], zv[..., inner:]
    carry = dend is not None and dtheta_end is not None
    kernels.scan_backward[(heads, b)](
        q, k, v, z, a, dt, gamma, weight, omega, q_bias.contiguous(), k_bias.contiguous(), d, states, thetas,
        dy.contiguous(), dend.contiguous() if dend is not None else dstart,
        dtheta_end.contiguous() if dtheta_end is not None else dtheta,
        dq, dk, dzv, da, ddt, dgamma, dweight, domega, dq_bias, dk_bias, dd,
        dstart, dtheta, length, v.stride(0), v.stride(1), z.stride(0), z.stride(1),
        H=heads, P=width, N=n, R=omega.shape[-1], Q=CHUNK, HAS_STATE=carry,
        num_warps=BACKWARD_WARPS, num_stages=BACKWARD_STAGES,
    )  # fmt: skip
    return grads


@siso_scan_backward.register_fake
def _(dy, dend, dtheta_end, q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, states, thetas):  # type: ignore[no-untyped-def]
    return _gradients(q, zv, a, omega, q_bias, d)


def _gradients(q: Tensor, zv: Tensor, a: Tensor, omega: Tensor, q_bias: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    b, length, n = q.shape
    heads, r = d.shape[0], omega.shape[-1]
    width = zv.shape[-1] // (2 * heads)
    return (
        zv.new_empty(b, length, heads, n),
        zv.new_empty(b, length, heads, n),
        torch.empty_like(zv, memory_format=torch.contiguous_format),
        *(torch.empty_like(a) for _ in range(4)),
        zv.new_empty(b, length, heads, r),
        q_bias.new_empty(b, heads, n),
        q_bias.new_empty(b, heads, n),
        q_bias.new_empty(b, heads),
        omega.new_empty(b, heads, n, width),
        omega.new_empty(b, heads, r),
    )


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, start, _theta, _keep, ctx.carry = inputs
    ctx.has_state = start is not None
    ctx.save_for_backward(*tensors, output[3], output[4])


def _backward(ctx: Any, dy: Tensor, dend: Tensor, dtheta_end: Tensor, _states: Tensor, _thetas: Tensor) -> (
    tuple[Tensor | None, ...]
):  # fmt: skip
    saved = ctx.saved_tensors
    through = ctx.carry or ctx.has_state
    dq, dk, dzv, da, ddt, dgamma, dweight, domega, dq_bias, dk_bias, dd, dstart, dtheta = (
        torch.ops.golf.siso_scan_backward(
            dy, dend if through else None, dtheta_end if through else None, *saved
        )
    )  # fmt: skip
    q, omega = saved[0], saved[7]
    return (
        dq.sum(2, dtype=torch.float32).to(q.dtype), dk.sum(2, dtype=torch.float32).to(q.dtype), dzv,
        da, ddt, dgamma, dweight, domega.sum(2, dtype=torch.float32).to(omega.dtype),
        dq_bias.sum(0), dk_bias.sum(0), dd.sum(0),
        dstart if ctx.has_state else None, dtheta if ctx.has_state else None, None, None,
    )  # fmt: skip


siso_scan.register_autograd(_backward, setup_context=_keep_for_backward)
