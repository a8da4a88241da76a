"""The negative log-likelihood, computed by the referee: log-softmax over the whole vocabulary, then the target [C2]."""

import os
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from harness.config.variables import cache_dir

PRECISION = "float64"
PRECISION_ON_DEVICE = (
    "exponentials of differences to the largest logit in float32, their sum, its logarithm and the rest in float64"
)
BLOCK_ELEMENTS = 1 << 18  # float64 elements of one block: 2 MiB, so that its passes stay in a core's cache


class NotFinite(ValueError):
    """A logit is NaN or infinite; ``row`` is the first such row of the slab."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} holds a logit that is NaN or infinite")
        self.row = row


def token_nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-ln p(target) of each row, in nats, float64, shape (rows,), on the host [C2-NORMALISED].

    logits:  (rows, vocabulary), any float dtype, in memory that nobody else writes to
    targets: int64, (rows,), each in [0, vocabulary)
    Error:   absolute, under 1e-12 nats for |logit| <= 1e3 on a CPU; on a GPU see :func:`row_nats`.
             A constant added to a whole row changes nothing however large it is: logits meet the row's largest
             before anything else, so no logarithm is lost beside them.
    Raises ``NotFinite`` for NaN and infinities.
    >>> round(token_nats(torch.zeros(1, 4), torch.tensor([2])).item(), 6)
    1.386294
    """
    if logits.is_cuda:
        torch._dynamo.mark_static(logits, 1)  # compiled for any vocabulary, a slab would take twice the time
        nats, bad = _kernel()(logits, targets.to(logits.device))
        nats = torch.where(bad, torch.nan, nats).cpu()  # one transfer tells both
        # by NumPy, on one thread: PyTorch would wake a second one for so many rows, and waiting for it took 16 ms
        if len(wrong := np.flatnonzero(np.isnan(nats.numpy()))):
            raise NotFinite(int(wrong[0]))
        return nats
    rows, vocabulary = logits.shape
    block_rows = max(1, BLOCK_ELEMENTS // vocabulary)
    block = torch.empty((min(block_rows, rows), vocabulary), dtype=torch.float64, device=logits.device)
    nats = torch.empty(rows, dtype=torch.float64, device=logits.device)
    for start in range(0, rows, block_rows):
        end = min(start + block_rows, rows)
        private = block[: end - start].copy_(logits[start:end])
        low, high = private.aminmax(dim=1)
        bad = ~(torch.isfinite(low) & torch.isfinite(high))
        if bad.any():
            raise NotFinite(start + int(bad.nonzero()[0]))
        chosen = private.gather(1, targets[start:end, None])[:, 0]
        below = chosen.sub_(high)
        nats[start:end] = private.sub_(high[:, None]).exp_().sum(1).log_().sub_(below)
    return nats


def row_nats(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(nats float64 (rows,), bad bool (rows,)) on a GPU, without the host in between; bad rows are not finite.

    One pass in float32 with float64 sums: float64 throughout would cost more than the predictor's own chunk.
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
def _kernel() -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """``row_nats``, fused by the compiler where it works on this machine, else as it is.

    Its cache is this user's own: by default code is loaded from a folder in /tmp that anybody could have made before.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))
    compiled = torch.compile(row_nats, dynamic=True)
    try:
        compiled(torch.zeros(8, 16, device="cuda", dtype=torch.float16), torch.zeros(8, device="cuda").long())
    except Exception:  # a missing C compiler, Triton or permission: the result is the same, only slower
        return row_nats
    return compiled


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """ln p over the vocabulary for each row, float64, same shape; rows that are not finite stay NaN."""
    return torch.log_softmax(logits.to(torch.float64), dim=-1)
