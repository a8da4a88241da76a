"""The negative log-likelihood of logits that lie on a GPU: one pass in float32 with float64 sums, no host in between.

float64 throughout, as :mod:`harness.scoring.nll` does on a CPU, would cost more than the predictor's own chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

PRECISION = (
    "exponentials of differences to the largest logit in float32, their sum, its logarithm and the rest in float64"
)
Kernel = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def row_nats(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(nats float64 (rows,), bad bool (rows,)); bad rows hold a logit that is NaN or infinite.

    Error: absolute, under 1e-5 nats for |logit| <= 1e2 and a vocabulary up to 65,536. The difference to the row's
    largest comes first, so that a large constant cannot swallow the logarithm.
    """
    wide = logits.float()
    high, low = wide.amax(1), wide.amin(1)
    bad = ~(torch.isfinite(high) & torch.isfinite(low))
    total = (wide - high[:, None]).exp().sum(1, dtype=torch.float64)
    chosen = logits.gather(1, targets[:, None])[:, 0].double()
    return total.log() - (chosen - high.double()), bad


@cache
def kernel() -> Kernel:
    """``row_nats``, fused by the compiler where it works on this machine, else as it is."""
    compiled: Kernel = torch.compile(row_nats, dynamic=True)
    try:
        compiled(
            torch.zeros(8, 16, device="cuda", dtype=torch.float16), torch.zeros(8, device="cuda", dtype=torch.int64)
        )
    except Exception:  # a missing C compiler, Triton or permission: the result is the same, only slower
        return row_nats
    return compiled
