"""Shared memory of the referee: sealed memory files that a worker maps but can neither shrink nor grow.

A worker may write into any of them at any time, so the referee copies what it reads before it uses it, and keeps its
own tokens. Without the seals a worker could truncate a file and kill the referee with SIGBUS.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from harness.protocol.layout import map_tensor

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class EvalBuffers:
    """The four shared buffers, as the referee sees them, and their descriptors in the order of BUFFERS.

    inputs, targets: int64 (chunk_tokens,); logits: (slab_rows, vocabulary); state: uint8 (state_bytes,)
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    logits: torch.Tensor
    state: torch.Tensor
    descriptors: tuple[int, int, int, int]


@contextmanager
def eval_buffers(
    *, chunk_tokens: int, slab_rows: int, vocab_size: int, logits_dtype: torch.dtype, state_bytes: int
) -> Iterator[EvalBuffers]:
    """Allocate the buffers of one evaluation. Descriptors are closed at the end; the memory goes with its last view."""
    shapes: tuple[tuple[torch.dtype, tuple[int, ...]], ...] = (
        (torch.int64, (chunk_tokens,)),
        (torch.int64, (chunk_tokens,)),
        (logits_dtype, (slab_rows, vocab_size)),
        (torch.uint8, (state_bytes,)),
    )
    descriptors: list[int] = []
    try:
        tensors = []
        for name, (dtype, shape) in zip(("inputs", "targets", "logits", "state"), shapes, strict=True):
            descriptors.append(_memory_file(name, dtype.itemsize * torch.Size(shape).numel()))
            tensors.append(map_tensor(descriptors[-1], dtype, shape))
        inputs, targets, logits, state = tensors
        first, second, third, fourth = descriptors
        yield EvalBuffers(inputs, targets, logits, state, (first, second, third, fourth))
    finally:
        for fd in descriptors:
            os.close(fd)


def _memory_file(name: str, size: int) -> int:
    fd = os.memfd_create(f"golf-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd
