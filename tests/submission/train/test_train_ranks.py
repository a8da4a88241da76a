"""Several ranks over gloo, started by torchrun, train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "support" / "gloo_training.py"


def losses(world: int, folder: Path) -> list[list[float]]:
    """The losses that each rank saw."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(SCRIPT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_reach_the_losses_of_a_single_process(world, alone, tmp_path):
    """Float32 sums in another order; six steps, the last two with quantised weights."""
    for mine in losses(world, tmp_path):
        assert mine == pytest.approx(alone, rel=2e-4)
