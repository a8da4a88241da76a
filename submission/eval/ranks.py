"""Several processes that evaluate one stream: windows of a chunk are sharded, gradients summed; rank 0 leads."""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from ..train.group import from_first_rank, gather_from_ranks, sum_over_ranks


class Order(IntEnum):
    """What rank 0 tells the others to do next."""

    STOP, SCORE, ADAPT, LOAD = range(4)


class Ranks:
    """This process among its peers; with one rank every method is the identity."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def share(self, windows: Tensor) -> Tensor:
        """This rank's windows of (n, …); n is a multiple of the number of ranks."""
        each = len(windows) // self.size
        return windows[self.rank * each : (self.rank + 1) * each]

    def gather(self, share: Tensor) -> Tensor:
        """All ranks' shares in order, on every rank."""
        if self.size == 1:
            return share
        return gather_from_ranks(share)

    def sum_all(self, tensors: list[Tensor]) -> None:
        """Sum each tensor over the ranks, in place, as one message a dtype."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # in one order on all ranks
            same = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.flatten() for t in same])
            sum_over_ranks(flat)
            parts = torch.split(flat, [t.numel() for t in same])
            torch._foreach_copy_(same, [part.view_as(tensor) for tensor, part in zip(same, parts, strict=True)])

    def from_first(self, tensor: Tensor) -> Tensor:
        """Rank 0's values, in place, on every rank."""
        if self.size > 1:
            from_first_rank(tensor)
        return tensor

    def order(self, order: Order, tokens: Tensor | None = None) -> None:
        """Rank 0: tell the others what comes, with int64 tokens (rows, n) where the order needs them."""
        if self.size > 1:
            shape = (0, 0) if tokens is None else (tokens.shape[0], tokens.shape[1])
            from_first_rank(torch.tensor([int(order), *shape]))
            if tokens is not None:
                from_first_rank(tokens.contiguous())

    def next_order(self, device: torch.device) -> tuple[Order, Tensor]:
        """The other ranks: wait for an order. The tokens are empty where it has none."""
        head = torch.zeros(3, dtype=torch.int64)
        from_first_rank(head)
        order, rows, count = head.tolist()
        tokens = torch.zeros(rows, count, dtype=torch.int64, device=device)
        if count:
            from_first_rank(tokens)
        return Order(order), tokens
