"""How tensors and shapes lie in the shared buffers: the same arithmetic on both sides, no names on the wire."""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass

import torch

ALIGNMENT = 64
Shapes = tuple[tuple[torch.dtype, tuple[int, ...]], ...]
LOGITS_DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Buffers:
    """The memory that referee and worker share, in the order in which its descriptors ride along.

    inputs, targets: int64 (chunk_tokens,); logits: (slab_rows, vocabulary); state: uint8 (state_bytes,)
    device: index of the CUDA device that they are on, ``None`` for host memory; descriptors: known to the referee alone
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    logits: torch.Tensor
    state: torch.Tensor
    device: int | None
    descriptors: tuple[int, ...] = ()


def buffer_shapes(
    chunk_tokens: int, slab_rows: int, vocab_size: int, logits_dtype: torch.dtype, state_bytes: int
) -> Shapes:
    """Element type and shape of each of the four buffers."""
    tokens = (torch.int64, (chunk_tokens,))
    return tokens, tokens, (logits_dtype, (slab_rows, vocab_size)), (torch.uint8, (state_bytes,))


def logits_code(dtype: torch.dtype) -> int:
    """The code of a logits dtype in HELLO. Raises ``ValueError`` for one that the protocol does not carry."""
    if dtype not in LOGITS_DTYPES:
        raise ValueError(f"logits_dtype is {dtype}; wanted one of {', '.join(map(str, LOGITS_DTYPES))}.")
    return LOGITS_DTYPES.index(dtype)


def state_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of the state blob: the tensors in the mapping's order, each from a multiple of 64 bytes on."""
    return sum(_aligned(t.numel() * t.element_size()) for t in tensors.values())


def state_views(tensors: Mapping[str, torch.Tensor], blob: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views into ``blob`` (uint8, shape (state_bytes,)) with the names, shapes and dtypes of ``tensors``."""
    views, at = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        views[name] = blob[at : at + size].view(tensor.dtype).view(tensor.shape)
        at += _aligned(size)
    return views


def map_tensor(fd: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor over the shared memory behind ``fd``, without a copy. A shape of no elements maps nothing."""
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    memory = mmap.mmap(fd, count * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
