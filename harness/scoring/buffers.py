"""Shared memory of the referee: sealed memory files, or on a GPU memory of the device that is shared by descriptor.

A worker may write into any of them at any time, so the referee copies what it reads before it uses it, and keeps its
own tokens. Without the seals a worker could truncate a file and kill the referee with SIGBUS; device memory has
no size to change.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from harness.protocol import device_memory
from harness.protocol.layout import Buffers, Shapes, map_tensor

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@contextmanager
def eval_buffers(shapes: Shapes, device: int | None = None) -> Iterator[Buffers]:
    """Allocate the buffers of one evaluation, zeroed.

    Descriptors are closed at the end. Host memory goes with its last view; device memory at the end, views or not.
    """
    with ExitStack() as stack:
        descriptors, tensors = [], []
        for dtype, shape in shapes:
            size = dtype.itemsize * torch.Size(shape).numel()
            if device is None:
                descriptor = os.memfd_create("golf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                stack.callback(os.close, descriptor)
                os.ftruncate(descriptor, size)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
                tensors.append(map_tensor(descriptor, dtype, shape))
            else:
                memory, descriptor = device_memory.allocate(size, device)
                stack.callback(memory.close)
                stack.callback(os.close, descriptor)
                tensors.append(memory.tensor(dtype, shape))
            descriptors.append(descriptor)
        inputs, targets, logits, state = tensors
        yield Buffers(inputs, targets, logits, state, device, tuple(descriptors))


def shared_device() -> int | None:
    """The CUDA device whose memory the referee can share with a worker; ``None`` where there is none."""
    if not torch.cuda.is_available():
        return None
    try:
        memory, descriptor = device_memory.allocate(1, 0)
    except device_memory.DeviceMemoryError:
        return None
    os.close(descriptor)
    memory.close()
    return 0
