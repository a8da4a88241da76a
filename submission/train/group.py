"""The ranks of a run as one group: collectives that say plainly that another rank is gone.

When a rank dies, the others only see a broken connection. They must not be heard first, so the protocol's ``LostRank``
tells this apart from an error of one's own: who raises it waits before it speaks. With NCCL the others see nothing and
wait; the referee ends them when it hears of the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from harness.protocol.ranks import LostRank

# PyTorch 2.13 renamed it and warns at each use of the old name.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def join(world_size: int, device: torch.device) -> None:
    """Meet the other ranks at the address in the environment; nothing to do for one rank. Raises ``LostRank``.

    On a GPU tensors there go through NCCL and tensors of the host through Gloo: a number that only Python needs then
    waits for no kernel.
    """
    if world_size > 1:
        with _others():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


def world_size() -> int:
    """Ranks in the group; 1 where none was joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rank() -> int:
    """This process in the group; 0 where none was joined."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_ranks(value: Tensor) -> None:
    """Replace ``value`` by its sum over all ranks. Raises ``LostRank``."""
    with _others():
        dist.all_reduce(value)


def gather_from_ranks(mine: Tensor) -> Tensor:
    """All ranks' tensors of one shape (n, …) as one, (ranks · n, …), in their order. Raises ``LostRank``."""
    whole = mine.new_empty(world_size() * len(mine), *mine.shape[1:])
    with _others():
        _all_gather(whole, mine.contiguous())
    return whole


def from_first_rank(value: Tensor) -> None:
    """Replace ``value`` by rank 0's. Raises ``LostRank``."""
    with _others():
        dist.broadcast(value, 0)


def agree(value: float) -> float:
    """Rank 0's value, on all ranks; it stays on the host, so no rank waits for its GPU. Raises ``LostRank``."""
    if world_size() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    from_first_rank(shared)
    return float(shared)


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # Gloo has no class of its own for it; NCCL's and the store's are RuntimeErrors too
        raise LostRank(str(error).strip().splitlines()[0]) from error
