"""Several ranks over gloo train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "support" / "gloo_training.py"


def start(world: int) -> list[subprocess.Popen[str]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=common | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def losses(world: int) -> list[list[float]]:
    results = [process.communicate(timeout=120) for process in start(world)]
    return [json.loads(out.splitlines()[-1]) for out, _ in results]


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return losses(1)[0]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_reach_the_losses_of_a_single_process(world, alone):
    """Float32 sums in another order; six steps, the last two with quantised weights."""
    for mine in losses(world):
        assert mine == pytest.approx(alone, rel=2e-4)
