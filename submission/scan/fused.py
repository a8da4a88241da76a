"""The project's own Triton kernels as PyTorch operators: compiled graphs call them without a break.

Everything that is cheap stays outside, in PyTorch, where the compiler fuses it: step sizes, decays, weights, norms.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .inputs import ScanInputs

TRITON = find_spec("triton") is not None
CHUNK, TURN = 64, 16  # tokens of a step of the scan; of a program of the rotation
EVERY = 4  # chunks after which the gradients of angles are added up anew
RESET_LOG_DECAY = -40.0  # e^-40 is nothing beside float32's 6e-8, and sums of a few keep six digits
# launch options are Triton's own (4 warps, 3 stages) or chosen once on an H200 at d_state 64, headdim 64 (LOG.md)
ROTATE = {"num_warps": 1, "maxnreg": 255}


def usable(heads: int, width: int, state: int, angles: int) -> bool:
    """Whether the kernels exist here and take these sizes: powers of two from 16 on; half or all of the state turns."""
    powers = all(size >= 16 and size & (size - 1) == 0 for size in (width, state))
    return powers and heads > 0 and angles in (state // 4, state // 2) and TRITON


def fused_scan(inputs: ScanInputs, zv: Tensor, biases: tuple[Tensor, Tensor]) -> Tensor:
    """Scan, skip and gate, from the zero state: y (b, L, H·P).

    inputs: ``q`` and ``k`` (b, L, N) are normed and neither biased nor spread over heads; ``v`` is not read
    zv:     (b, L, 2·H·P), the gate's logits and the values; biases: of q and of k, (H, N) float32
    """
    q, k, _, log_decay, dt, lam, omega, d, reset = inputs
    heads, length = d.shape[0], q.shape[1]
    gamma, beta = lam * dt, (1 - lam) * dt
    if reset is not None:
        beta = beta.masked_fill(reset[..., None], 0.0)
        log_decay = log_decay.masked_fill(reset[..., None], RESET_LOG_DECAY)
    weight = gamma + F.pad(beta[:, 1:], (0, 0, 0, 1))
    a, dt, gamma, weight = (x.float().mT.contiguous() for x in (log_decay, dt, gamma, weight))
    omega = omega.float()
    # angles where the rotation's programs start, (b, H, L / TURN, R); summed in float64, so that no length loses digits
    pad = -length % TURN
    shape = (len(q), -1, TURN, omega.shape[-1])
    steps = F.pad(omega, (0, 0, 0, pad)).view(shape)[:, None] * F.pad(dt, (0, pad)).view(len(q), heads, -1, TURN, 1)
    steps = steps.sum(3).double()
    thetas = ((steps.cumsum(2) - steps) % (2 * math.pi)).float()
    y: Tensor = torch.ops.golf.siso_scan(
        q, k, zv, a, dt, gamma, weight, omega, *biases, d.float(), thetas, torch.is_grad_enabled()
    )[0]
    return y


@torch.library.custom_op("golf::siso_scan", mutates_args=())
def siso_scan(
    q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor, gamma: Tensor, weight: Tensor, omega: Tensor,
    q_bias: Tensor, k_bias: Tensor, d: Tensor, thetas: Tensor, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y; where ``keep`` also y without its gate, states at the start of each chunk (b, H, C, N, P), and rotated queries
    and keys (b, H, L, N)."""
    from . import kernels

    y, plain, states, *rotated = outputs = _outputs(q, zv, d, keep)
    b, length, n = q.shape
    heads, inner = len(d), zv.shape[-1] // 2
    zv, q_bias, k_bias, thetas = zv.contiguous(), q_bias.contiguous(), k_bias.contiguous(), thetas.contiguous()
    if not keep:
        rotated = [q.new_empty(b, heads, length, n) for _ in range(2)]
    kernels.rotate_forward[(thetas.shape[2], b)](
        q.contiguous(), k.contiguous(), omega.contiguous(), dt, q_bias, k_bias, thetas, *rotated, length,
        H=heads, N=n, R=omega.shape[-1], Q=TURN, **ROTATE,
    )  # fmt: skip
    z, v = zv[..., :inner], zv[..., inner:]
    kernels.scan_forward[(heads, b)](
        *rotated, v, z, a, gamma, weight, d, y, plain, states,
        length, v.stride(0), v.stride(1), z.stride(0), z.stride(1),
        H=heads, P=inner // heads, N=n, Q=CHUNK, KEEP=keep,
    )  # fmt: skip
    return outputs


@siso_scan.register_fake
def _(q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, thetas, keep):  # type: ignore[no-untyped-def]
    return _outputs(q, zv, d, keep)


def _outputs(q: Tensor, zv: Tensor, d: Tensor, keep: bool) -> tuple[Any, ...]:
    b, length, n = q.shape
    heads, inner = len(d), zv.shape[-1] // 2
    kept = length if keep else 0
    return (
        zv.new_empty(b, length, inner),
        zv.new_empty(b, kept, inner),
        zv.new_empty(b, heads, -(-kept // CHUNK), n, inner // heads),
        zv.new_empty(b, heads, kept, n),
        zv.new_empty(b, heads, kept, n),
    )


@torch.library.custom_op("golf::siso_scan_backward", mutates_args=())
def siso_scan_backward(
    dy: Tensor, q: Tensor, k: Tensor, zv: Tensor, a: Tensor, dt: Tensor, gamma: Tensor, weight: Tensor, omega: Tensor,
    q_bias: Tensor, k_bias: Tensor, d: Tensor, thetas: Tensor,
    plain: Tensor, states: Tensor, q_rotated: Tensor, k_rotated: Tensor,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Gradients in the order of the inputs; the biases' and d's are still one share a program."""
    from . import kernels

    grads = _gradients(q, zv, a, omega, q_bias, thetas)
    dq, dk, dzv, da, ddt, dgamma, dweight, domega, dq_bias, dk_bias, dd, dthetas = grads
    b, length, n = q.shape
    heads, inner, chunks, r = len(d), zv.shape[-1] // 2, states.shape[2], omega.shape[-1]
    zv, q_bias, k_bias, thetas = zv.contiguous(), q_bias.contiguous(), k_bias.contiguous(), thetas.contiguous()
    z, v = zv[..., :inner], zv[..., inner:]
    sizes = {"H": heads, "P": inner // heads, "Q": CHUNK}
    dplain, dot = torch.empty_like(plain), torch.empty_like(a)
    kernels.gate_backward[(chunks, heads, b)](
        z, plain, dy.contiguous(), dzv, dplain, dot, length, z.stride(0), z.stride(1), **sizes
    )
    dstates, turns = torch.empty_like(states), a.new_empty(b, heads, -(-chunks // EVERY), n)
    kernels.state_backward[(heads, b)](
        q_rotated, a, dplain, states, dstates, turns, length, N=n, EVERY=EVERY, **sizes, num_stages=2
    )
    dq_rotated, dk_rotated = torch.empty_like(q_rotated), torch.empty_like(k_rotated)
    kernels.chunk_backward[(heads, chunks, b)](
        q_rotated, k_rotated, v, a, gamma, weight, d, states, dstates, dplain, dot,
        dq_rotated, dk_rotated, dzv[..., inner:], da, dgamma, dweight, dd, length, v.stride(0), v.stride(1),
        N=n, **sizes,
    )  # fmt: skip
    kernels.rotate_backward[(thetas.shape[2], b)](
        q.contiguous(), k.contiguous(), omega.contiguous(), dt, q_bias, k_bias, thetas, dq_rotated, dk_rotated,
        dq, dk, ddt, domega, dthetas, dq_bias, dk_bias, length, H=heads, N=n, R=r, Q=TURN, **ROTATE,
    )  # fmt: skip
    # dq and dk are rounded to 16 bits, and sums of their angles over a long sequence would keep what that costs: every
    # few chunks the sum is taken from the states instead
    pairs, stretch = turns.view(b, heads, -1, n // 2, 2)[..., :r, :], EVERY * CHUNK // TURN
    later = pairs[..., 1] - pairs[..., 0]
    whole = F.pad(later[:, :, 1:], (0, 0, 0, 1)) - later
    within = F.pad(dthetas, (0, 0, 0, -thetas.shape[2] % stretch)).view(b, heads, -1, stretch, r).sum(3)
    dthetas[:, :, ::stretch] += whole - within
    return grads


@siso_scan_backward.register_fake
def _(dy, q, k, zv, a, dt, gamma, weight, omega, q_bias, k_bias, d, thetas, plain, states, q_r, k_r):  # type: ignore[no-untyped-def]
    return _gradients(q, zv, a, omega, q_bias, thetas)


def _gradients(q: Tensor, zv: Tensor, a: Tensor, omega: Tensor, q_bias: Tensor, thetas: Tensor) -> tuple[Any, ...]:
    b, heads, turns, _ = thetas.shape
    shares = q_bias.new_empty(b, turns, heads, q.shape[-1])

    def like(x: Tensor) -> Tensor:
        return torch.empty_like(x, memory_format=torch.contiguous_format)

    return (
        *(like(x) for x in (q, q, zv, a, a, a, a, omega, shares, shares)),
        q_bias.new_empty(b, heads, -(-q.shape[1] // CHUNK)),
        like(thetas),
    )


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-1], *output[1:])


def _backward(ctx: Any, dy: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
    *grads, dq_bias, dk_bias, dd, dthetas = torch.ops.golf.siso_scan_backward(dy, *ctx.saved_tensors)
    return (*grads, dq_bias.sum((0, 1)), dk_bias.sum((0, 1)), dd.sum((0, 2)), dthetas, None)


siso_scan.register_autograd(_backward, setup_context=_keep_for_backward)
