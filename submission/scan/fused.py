"""The project's own Triton kernels as PyTorch operators: compiled graphs call them without a break.

Everything that is cheap stays outside, in PyTorch, where the compiler fuses it: step sizes, decays, weights, norms.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .inputs import ScanInputs, ScanState, rotate

TRITON = find_spec("triton") is not None
CHUNK = 64
RESET_LOG_DECAY = -40.0  # e^-40 is nothing beside float32's 6e-8, and sums of a few keep six digits
# launch options, chosen once on an H100 at d_state 64, headdim 64 (README: Kernels): no autotuning at run time
FORWARD = {"num_warps": 4, "num_stages": 1}
STATE_BACKWARD = {"num_warps": 4, "num_stages": 2}
QUERY_KEY_BACKWARD = {"num_warps": 4, "num_stages": 1}
VALUE_BACKWARD = {"num_warps": 4, "num_stages": 1}


def usable(heads: int, width: int, state: int, angles: int) -> bool:
    """Whether the kernels exist here and take these sizes: powers of two from 16 on."""
    powers = all(size >= 16 and size & (size - 1) == 0 for size in (width, state))
    return powers and heads > 0 and 0 < angles <= state // 2 and TRITON


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
    y, end, theta_end, *_ = torch.ops.golf.siso_scan(
        q, k, zv, *by_head, omega.float(), *biases, d.float(), start, theta, torch.is_grad_enabled(), carry
    )
    if not carry:
        return y, None
    last_k = rotate(k[:, -1, None].float() + biases[1], theta_end)
    last_v = zv[:, -1].view(-1, 2, heads, width)[:, 1]
    return y, ScanState(theta_end, end.mT, last_k, last_v)


@torch.library.custom_op("golf::siso_scan", mutates_args=())
def siso_scan(
    q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor, gamma: Tensor, weight: Tensor, omega: Tensor,
    q_bias: Tensor, k_bias: Tensor, d: Tensor, start: Tensor | None, theta: Tensor | None, keep: bool, carry: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y, state (b, H, N, P) and angle (b, H, R) at the end; where ``keep`` also y without its gate, and states and
    angles at the start of each chunk."""
    from . import kernels

    y, end, theta_end, plain, states, thetas = _outputs(q, zv, omega, d, keep)
    b, length, n = q.shape
    heads = len(d)
    width = zv.shape[-1] // (2 * heads)
    q, k, zv, omega = q.contiguous(), k.contiguous(), zv.contiguous(), omega.contiguous()
    z, v = zv[..., : heads * width], zv[..., heads * width :]
    kernels.scan_forward[(heads, b)](
        q, k, v, z, a, dt, gamma, weight, omega, q_bias.contiguous(), k_bias.contiguous(), d,
        end if start is None else start.contiguous(), theta_end if theta is None else theta.contiguous(),
        y, plain, states, thetas, end, theta_end, length, v.stride(0), v.stride(1), z.stride(0), z.stride(1),
        H=heads, P=width, N=n, R=omega.shape[-1], Q=CHUNK, HAS_STATE=start is not None, KEEP=keep,
        **FORWARD,
    )  # fmt: skip
    return y, end, theta_end, plain, states, thetas


@siso_scan.register_fake
def _(q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, start, theta, keep, carry):  # type: ignore[no-untyped-def]
    return _outputs(q, zv, omega, d, keep)


def _outputs(q: Tensor, zv: Tensor, omega: Tensor, d: Tensor, keep: bool) -> tuple[Any, ...]:
    b, length, n = q.shape
    heads, r = d.shape[0], omega.shape[-1]
    width = zv.shape[-1] // (2 * heads)
    chunks = -(-length // CHUNK) if keep else 0
    return (
        zv.new_empty(b, length, heads * width),
        omega.new_empty(b, heads, n, width),
        omega.new_empty(b, heads, r),
        zv.new_empty(b, length if keep else 0, heads * width),
        zv.new_empty(b, heads, chunks, n, width),
        omega.new_empty(b, heads, chunks, r),
    )


@torch.library.custom_op("golf::siso_scan_backward", mutates_args=())
def siso_scan_backward(
    dy: Tensor, dend: Tensor | None, q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor,
    gamma: Tensor, weight: Tensor, omega: Tensor, q_bias: Tensor, k_bias: Tensor, d: Tensor, plain: Tensor,
    states: Tensor, thetas: Tensor,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Gradients, still one share a head (dq, dk, domega) or a chunk (the biases', d's and the angles')."""
    from . import kernels

    grads = _gradients(q, zv, a, omega, q_bias, d)
    dq, dk, dzv, da, ddt, dgamma, dweight, domega, dthetas, dq_bias, dk_bias, dd, dstart = grads
    b, length, n = q.shape
    heads = len(d)
    inner = zv.shape[-1] // 2
    q, k, zv, omega, dy = q.contiguous(), k.contiguous(), zv.contiguous(), omega.contiguous(), dy.contiguous()
    z, v = zv[..., :inner], zv[..., inner:]
    q_bias, k_bias = q_bias.contiguous(), k_bias.contiguous()
    sizes = {"H": heads, "P": inner // heads, "N": n, "R": omega.shape[-1], "Q": CHUNK}
    dstates = torch.empty_like(states)
    kernels.state_backward[(heads, b)](
        q, z, a, dt, omega, q_bias, thetas, dy, dstart if dend is None else dend.contiguous(), dstates, dstart,
        length, z.stride(0), z.stride(1), HAS_STATE=dend is not None, **sizes, **STATE_BACKWARD,
    )  # fmt: skip
    per_chunk, strides = (heads, states.shape[2], b), (v.stride(0), v.stride(1), z.stride(0), z.stride(1))
    dtotals = torch.empty_like(dd)
    kernels.query_key_backward[per_chunk](
        q, k, v, z, a, dt, gamma, weight, omega, q_bias, k_bias, states, thetas, dy, dstates,
        dq, dk, ddt, domega, dthetas, dtotals, dq_bias, dk_bias, length, *strides, **sizes, **QUERY_KEY_BACKWARD,
    )  # fmt: skip
    kernels.value_backward[per_chunk](
        q, k, v, z, a, dt, gamma, weight, omega, q_bias, k_bias, d, plain, thetas, dy, dstates, dtotals,
        dzv, da, dgamma, dweight, dd, length, *strides, **sizes, **VALUE_BACKWARD,
    )  # fmt: skip
    return grads


@siso_scan_backward.register_fake
def _(dy, dend, q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, plain, states, thetas):  # type: ignore[no-untyped-def]
    return _gradients(q, zv, a, omega, q_bias, d)


def _gradients(q: Tensor, zv: Tensor, a: Tensor, omega: Tensor, q_bias: Tensor, d: Tensor) -> tuple[Any, ...]:
    b, length, n = q.shape
    heads, r = d.shape[0], omega.shape[-1]
    width = zv.shape[-1] // (2 * heads)
    chunks = -(-length // CHUNK)
    return (
        zv.new_empty(b, length, heads, n),
        zv.new_empty(b, length, heads, n),
        torch.empty_like(zv, memory_format=torch.contiguous_format),
        *(torch.empty_like(a) for _ in range(4)),
        zv.new_empty(b, length, heads, r),
        omega.new_empty(b, heads, chunks, r),
        q_bias.new_empty(b, heads, chunks, n),
        q_bias.new_empty(b, heads, chunks, n),
        q_bias.new_empty(b, heads, chunks),
        omega.new_empty(b, heads, n, width),
    )


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, start, _theta, _keep, ctx.carry = inputs
    ctx.has_state = start is not None
    ctx.save_for_backward(*tensors, *output[3:])


def _backward(ctx: Any, dy: Tensor, dend: Tensor, dtheta_end: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    q, a, dt, omega = saved[0], saved[3], saved[4], saved[7]
    through = ctx.carry or ctx.has_state
    dq, dk, dzv, da, ddt, dgamma, dweight, domega, dthetas, dq_bias, dk_bias, dd, dstart = (
        torch.ops.golf.siso_scan_backward(dy, dend if through else None, *saved)
    )
    # every angle turns all later tokens: what later chunks (and the end) ask of it
    later = dthetas.sum(2, keepdim=True) - dthetas.cumsum(2)
    if through:
        later = later + dtheta_end[:, :, None]
    later = later.repeat_interleave(CHUNK, 2)[:, :, : a.shape[2]]  # (b, H, L, R)
    ddt = ddt + (later * omega[:, None]).sum(-1)
    domega = domega.sum(2, dtype=torch.float32) + (later * dt[..., None]).sum(1)
    dtheta = dthetas.sum(2) + dtheta_end if ctx.has_state else None
    return (
        dq.sum(2, dtype=torch.float32).to(q.dtype), dk.sum(2, dtype=torch.float32).to(q.dtype), dzv,
        da, ddt, dgamma, dweight, domega.to(omega.dtype), dq_bias.sum((0, 2)), dk_bias.sum((0, 2)), dd.sum((0, 2)),
        dstart if ctx.has_state else None, dtheta, None, None,
    )  # fmt: skip


siso_scan.register_autograd(_backward, setup_context=_keep_for_backward)
