"""Cells on a GPU: a kill that gives the GPU's memory back, and what a training script needs behind every layer."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cells import spec, wait_for, ways

from harness.run.cells import gpu_devices
from harness.sandbox.cell import Cell

pytestmark = pytest.mark.gpu

HELD_BYTES, TOLERANCE_BYTES = 2 << 30, 64 << 20

QUEUES_FOR_EVER = f"""
import signal
import torch
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = torch.ones({HELD_BYTES}, dtype=torch.uint8, device="cuda")
x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
y = torch.empty_like(x)
torch.matmul(x, x, out=y)
torch.cuda.synchronize()
print("queueing", flush=True)
while True:
    torch.matmul(x, x, out=y)
"""


@contextmanager
def gpu_cell(program: str, folder: Path, *, namespaced: bool) -> Iterator[Cell]:
    """A cell that has every GPU and runs ``program`` with its packages; its log is ``folder / "log"``."""
    code = folder / "code"
    code.mkdir()
    (code / "program.py").write_text(program)
    rights = {"read": (code,), "devices": gpu_devices(), "file_bytes": 1 << 30, "packages": None}
    base = spec("", folder / "log", namespaced=namespaced, **rights)
    whole = replace(base, argv=(sys.executable, "-I", "-B", str(code / "program.py")))
    with Cell(whole, strict=False) as cell:
        cell.start()
        yield cell


def free_bytes() -> int:
    """Free memory of the GPU, whoever uses the rest."""
    free: int = torch.cuda.mem_get_info()[0]
    return free


@ways
@pytest.mark.rule("S2-NO-SURVIVORS")
def test_a_kill_in_the_middle_of_endless_kernels_gives_the_memory_back(namespaced: bool, tmp_path: Path):
    before, log = free_bytes(), tmp_path / "log"
    with gpu_cell(QUEUES_FOR_EVER, tmp_path, namespaced=namespaced) as cell:
        wait_for(lambda: "queueing" in log.read_text() or None not in cell.exit_codes())
        assert cell.exit_codes() == [None], log.read_text()
        assert before - free_bytes() >= HELD_BYTES
        deadline_ns = time.monotonic_ns() + 300_000_000
        with cell.armed(deadline_ns):
            wait_for(lambda: None not in cell.exit_codes())  # nobody calls kill here
        report = cell.kill(deadline_ns)
        after = free_bytes()
    assert report.late
    assert report.survivors == 0
    assert 0 < report.stopped_ns <= report.overshoot_ns
    assert before - after < TOLERANCE_BYTES
