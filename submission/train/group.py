"""The ranks of a run as one group: collectives that tell a lost rank (``LostRank``) from an error of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from harness.protocol.ranks import LostRank

from ..preflight import NotUsable

# The referee's clocks end what waits in vain. PyTorch's own limit of ten or thirty minutes would end the ranks of a
# replica that waits for its turn.
PATIENCE = timedelta(hours=24)
LOST_BY_NCCL = "remote process exited"
# PyTorch 2.13 renamed it and warns at each use of the old name.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def join(world_size: int, device: torch.device) -> None:
    """Meet the other ranks at the address in the environment; nothing to do for one rank.

    Tensors of a GPU go through NCCL, those of the host through Gloo, so that a number for Python waits for no kernel.
    NCCL connects here, before anything compiles. Raises ``LostRank``, and ``NotUsable`` where NCCL cannot connect.
    """
    if world_size == 1:
        return
    with _others():
        if device.type != "cuda":
            dist.init_process_group("gloo", timeout=PATIENCE)
            return
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE, device_id=device)
        except dist.DistBackendError as error:
            if LOST_BY_NCCL in str(error):
                raise
            raise NotUsable(
                f"NCCL cannot connect the {world_size} GPUs: {_lines(error)[-1]}. `harness doctor` tries it in a cell."
            ) from error


def leave() -> None:
    """Part from the other ranks, after the last word to the referee, and when all devices are idle.

    Another GPU may still read from this one's memory.
    """
    if not dist.is_initialized():
        return
    with suppress(RuntimeError):  # the others may be gone already
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        dist.all_reduce(torch.zeros(1))
    dist.destroy_process_group()


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
    except (torch.OutOfMemoryError, NotUsable):
        raise
    except RuntimeError as error:  # Gloo has no class of its own for it; NCCL's and the store's are RuntimeErrors too
        raise LostRank(_lines(error)[-1 if isinstance(error, dist.DistBackendError) else 0]) from error


def _lines(error: Exception) -> list[str]:
    """What it says; NCCL's own reason is the last line, Gloo's the first."""
    return str(error).strip().splitlines() or [type(error).__name__]
