"""Run by tests/submission/scan/test_kernels.py with TRITON_INTERPRET=1: kernels in float32 against float64."""

import math
import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from submission.scan.chunked import chunked_scan
from submission.scan.fused import fused_scan
from submission.scan.inputs import ScanInputs

BOUND = 2e-5


def worst(b: int, length: int, h: int, p: int, n: int, r: int, resets: bool = False) -> float:
    """Largest norm-relative difference over the output and the gradients of everything."""
    g = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    leaves = [
        normal(b, length, n), normal(b, length, n), normal(b, length, 2 * h * p), normal(b, length, h) - 2,
        normal(b, length, h), normal(b, length, h), normal(b, length, r), normal(h, n), normal(h, n), normal(h),
    ]  # fmt: skip
    out_weight = normal(b, length, h * p)
    reset = torch.rand(b, length, generator=g) < 0.03 if resets else None

    def run(dtype: torch.dtype, fused: bool) -> list[Tensor]:
        parts = [leaf.to(dtype).requires_grad_() for leaf in leaves]
        q, k, zv, step, decay, trap, angles, q_bias, k_bias, d = parts
        dt = F.softplus(step)
        rest = (-F.softplus(decay) * dt, dt, trap.sigmoid(), math.pi * angles.tanh(), d, reset)
        if fused:
            y = fused_scan(ScanInputs(q, k, zv, *rest), zv, (q_bias, k_bias))
        else:
            z, v = zv.view(b, length, 2, h, p).unbind(2)
            y, _ = chunked_scan(ScanInputs(q[:, :, None] + q_bias, k[:, :, None] + k_bias, v, *rest), None, 64)
            y = (y * F.silu(z)).flatten(2)
        return [y, *torch.autograd.grad((y * out_weight).sum(), parts)]

    pairs = zip(run(torch.float32, True), run(torch.float64, False), strict=True)
    return max(float(((a.double() - b).norm() / b.norm()).detach()) for a, b in pairs)


cases = [
    worst(2, 100, 3, 16, 32, 8),
    worst(1, 330, 2, 32, 16, 8),
    worst(1, 330, 2, 16, 32, 16, resets=True),
]
print(cases)
sys.exit(max(cases) > BOUND)
