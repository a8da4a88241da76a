"""The kernels against the chunked scan in float64, for tests/submission/scan/test_kernels.py, which interprets them."""

import math
import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from submission.scan.chunked import chunked_scan
from submission.scan.fused import fused_scan
from submission.scan.inputs import ScanInputs

BOUND = 2e-5


def differences(
    b: int, length: int, h: int, p: int, n: int, r: int, *, resets: bool = False, device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32, compiled: bool = False,
) -> list[float]:  # fmt: skip
    """Norm-relative, of the output and of the gradients of everything; queries, keys and values are of ``dtype``."""
    g = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(dtype)

    leaves = [
        normal(b, length, n), normal(b, length, n), normal(b, length, 2 * h * p), normal(b, length, h) - 2,
        normal(b, length, h), normal(b, length, h), normal(b, length, r), normal(h, n), normal(h, n), normal(h),
    ]  # fmt: skip
    weight = normal(b, length, h * p).to(device)
    reset = (torch.rand(b, length, generator=g) < 0.03).to(device) if resets else None
    if reset is not None:
        reset[:, length // 2] = True

    def run(wide: bool, leaves: list[Tensor]) -> Tensor:
        q, k, zv, *rest = leaves
        step, decay, trap, angles, q_bias, k_bias, d = (x.to(torch.float64 if wide else torch.float32) for x in rest)
        dt = F.softplus(step)
        inner = (-F.softplus(decay) * dt, dt, trap.sigmoid(), math.pi * angles.tanh(), d, reset)
        if not wide:
            return fused_scan(ScanInputs(q, k, zv, *inner), zv, (q_bias, k_bias))
        z, v = zv.view(b, length, 2, h, p).unbind(2)
        y, _ = chunked_scan(ScanInputs(q[:, :, None] + q_bias, k[:, :, None] + k_bias, v, *inner), None, 64)
        return (y * F.silu(z)).flatten(2)

    kernels = torch.compile(run, fullgraph=True, dynamic=False) if compiled else run
    results = []
    for wide, function in ((True, run), (False, kernels)):
        own = [leaf.to(device, torch.float64 if wide else dtype).requires_grad_() for leaf in leaves]
        y = function(wide, own)
        results.append([y, *torch.autograd.grad((y * weight.to(y.dtype)).sum(), own)])
    return [float(((a.double() - w).norm() / w.norm()).detach()) for w, a in zip(*results, strict=True)]


if __name__ == "__main__":
    cases = [
        max(differences(2, 100, 3, 16, 32, 8)),
        max(differences(1, 330, 2, 32, 16, 8)),
        max(differences(1, 330, 2, 16, 32, 16, resets=True)),
    ]
    print(cases)
    sys.exit(max(cases) > BOUND)
