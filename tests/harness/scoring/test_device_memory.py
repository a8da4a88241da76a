"""Device memory crosses a process boundary by descriptor: what one side writes the other reads, and sizes hold."""

import os
import subprocess
import sys

import pytest
import torch

from harness.protocol import buffers
from harness.protocol.buffers import DeviceMemoryError

CHILD = """
import sys, torch
from harness.protocol.buffers import attach
tensor = attach(int(sys.argv[1]), 4000, 0).tensor(torch.int32, (1000,))
assert tensor.sum().item() == 499500, tensor
tensor.mul_(2)
torch.cuda.synchronize()
"""


@pytest.mark.gpu
def test_a_child_sees_and_changes_the_parents_memory() -> None:
    memory, descriptor = buffers.allocate(4000, 0)
    try:
        tensor = memory.tensor(torch.int32, (1000,))
        assert int(tensor.count_nonzero()) == 0
        tensor.copy_(torch.arange(1000))
        buffers.settle(0)
        subprocess.run([sys.executable, "-c", CHILD, str(descriptor)], pass_fds=[descriptor], check=True)
        assert torch.equal(tensor.cpu(), 2 * torch.arange(1000, dtype=torch.int32))
    finally:
        os.close(descriptor)
        memory.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="covers machines without CUDA, and this one has it")
def test_without_a_driver_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceMemoryError, match="driver cannot be loaded"):
        buffers._call("cuInit", 0)
