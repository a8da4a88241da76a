"""Two and three processes give what one gives: windows are sharded, gradients summed, the order of chunks unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "rank_process.py"
SHORT_TAIL = 330
CASES = [
    pytest.param({"eval_mode": "overlap"}, 2, SHORT_TAIL, id="overlap-2"),
    pytest.param({"ttt_batch_windows": 3, "eval_bias_lr": 1.0}, 3, SHORT_TAIL, id="batches-3"),
    pytest.param({"eval_mode": "carry"}, 2, SHORT_TAIL, id="carry-2", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("changes", "size", "targets"), CASES)
def test_several_ranks_equal_one(changes: dict[str, object], size: int, targets: int, tmp_path: Path) -> None:
    one, several = evaluate(changes, 1, targets, tmp_path), evaluate(changes, size, targets, tmp_path)
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(several[name], tensor, rtol=1e-4, atol=2e-4, msg=name)


def evaluate(changes: dict[str, object], size: int, targets: int, folder: Path) -> dict[str, torch.Tensor]:
    result, store = folder / f"{size}.pt", folder / f"store-{size}"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    environ = os.environ | {"PYTHONPATH": path}
    commands = [
        [sys.executable, str(SCRIPT), str(rank), str(size), str(store), json.dumps(changes), str(result), str(targets)]
        for rank in range(size)
    ]
    ranks = [subprocess.Popen(command, env=environ) for command in commands]
    try:
        assert [process.wait(timeout=120) for process in ranks] == [0] * size
    finally:
        for process in ranks:
            process.kill()
    loaded: dict[str, torch.Tensor] = torch.load(result, weights_only=True)
    return loaded
