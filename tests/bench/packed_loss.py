"""The loss of a model on windows of a token shard: what the tables of ablations and of roles measure quality by."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from submission.model.hybrid import Hybrid

TOKENS = 16384  # of one pass
HEADER_BYTES = 1024


@torch.no_grad()
def mean_loss(model: Hybrid, windows: Tensor) -> float:
    """Nats a token of windows (n, length + 1), each from the zero state."""
    device = model.embedding.weight.device
    total = 0.0
    for part in torch.split(windows, max(1, TOKENS // windows.shape[1])):
        tokens = part.to(device)
        logits = model(tokens[:, :-1]).flatten(0, 1).float()
        total += float(F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum"))
    return total / (windows.numel() - len(windows))


def read_windows(shard: Path, count: int, length: int) -> Tensor:
    """The first windows of a shard, int64 (n, length + 1). Raises ``ValueError`` when it has not one."""
    tokens = np.fromfile(shard, "<u2", count=count * length + 1, offset=HEADER_BYTES)
    count = min(count, (len(tokens) - 1) // length)
    if count < 1:
        raise ValueError(f"{shard} holds not one window of {length:,} tokens.")
    starts = np.arange(count) * length
    return torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64))


def bytes_per_token(shard: Path, windows: Tensor) -> float:
    """Mean raw bytes of the targets of the first ``windows``, from the ledger beside a ``…_val_…`` shard; NaN without.

    A loss in nats a token over ln 2 and over this is bits per byte.
    """
    ledger = shard.with_name(shard.name.replace("_val_", "_val_bytes_"))
    if ledger == shard or not ledger.is_file():
        return math.nan
    targets = windows.numel() - len(windows)
    counts = np.fromfile(ledger, "<u2", count=targets, offset=HEADER_BYTES + 2)  # the first token is no target
    return float(counts.sum(dtype=np.int64)) / targets
