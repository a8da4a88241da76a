"""The negative log-likelihood, computed by the referee: log-softmax over the whole vocabulary, then the target [C2]."""

from __future__ import annotations

import torch

from harness.scoring import nll_device

PRECISION = "float64"
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
    Error:   absolute, under 1e-12 nats for |logit| <= 1e3 on a CPU; on a GPU see :mod:`harness.scoring.nll_device`.
             A constant added to a whole row changes nothing however large it is: logits meet the row's largest
             before anything else, so no logarithm is lost beside them.
    Raises ``NotFinite`` for NaN and infinities.
    >>> round(token_nats(torch.zeros(1, 4), torch.tensor([2])).item(), 6)
    1.386294
    """
    if logits.is_cuda:
        return _on_device(logits, targets)
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


def _on_device(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    nats, bad = nll_device.kernel()(logits, targets.to(logits.device))
    nats = torch.where(bad, torch.nan, nats).cpu()  # one transfer tells both
    bad = nats.isnan()
    if bad.any():
        raise NotFinite(int(bad.nonzero()[0]))
    return nats


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """ln p over the vocabulary for each row, float64, same shape; rows that are not finite stay NaN."""
    return torch.log_softmax(logits.to(torch.float64), dim=-1)
