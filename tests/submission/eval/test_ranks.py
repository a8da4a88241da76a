"""Several processes give what one gives: windows are sharded, gradients summed, the order of chunks unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lab
import pytest
import torch

from harness.protocol.channel import Channel
from harness.scoring.client import EvalClient, WorkerLimits
from harness.scoring.ledger import ScoreLedger
from harness.scoring.loop import score_stream

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "rank_process.py"
SHORT_TAIL = 330


def test_three_ranks_equal_one(tmp_path: Path) -> None:
    """Overlapping windows, three a step; the tail has too few for all ranks."""
    changes = {"eval_mode": "overlap", "ttt_batch_windows": 3}
    one, several = (evaluate(changes, size, SHORT_TAIL, tmp_path) for size in (1, 3))
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(several[name], tensor, rtol=1e-4, atol=2e-4, msg=name)


def test_the_referee_drives_rank_0_and_the_others_follow(tmp_path: Path) -> None:
    stream = lab.markov_stream(vocab_size=64, targets=300)
    nats = {}
    for size in (1, 2):
        channel, theirs = Channel.pair()
        ranks = start({"eval_mode": "overlap"}, size, 300, tmp_path / str(size), "refereed", theirs.fileno())
        theirs.close()
        try:
            with EvalClient(channel, WorkerLimits(64, 1 << 20, 1 << 30, 60.0)) as client:
                client.prepare()
                client.start()
                ledger = ScoreLedger(stream)
                score_stream(client, stream, ledger, chunk_tokens=client.hello.chunk_tokens, adapt=True)
                client.stop()
            assert [process.wait(timeout=280) for process in ranks] == [0] * size
        finally:
            for process in ranks:
                process.kill()
        nats[size] = ledger.totals()[0]
    assert nats[1] == pytest.approx(nats[2], rel=1e-5)


def evaluate(changes: dict[str, object], size: int, targets: int, folder: Path) -> dict[str, torch.Tensor]:
    ranks = start(changes, size, targets, folder / str(size), "result.pt")
    try:
        assert [process.wait(timeout=280) for process in ranks] == [0] * size
    finally:
        for process in ranks:
            process.kill()
    loaded: dict[str, torch.Tensor] = torch.load(folder / str(size) / "result.pt", weights_only=True)
    return loaded


def start(
    changes: dict[str, object], size: int, targets: int, folder: Path, result: str, descriptor: int = -1
) -> list[subprocess.Popen[bytes]]:
    """All ranks; ``descriptor`` is rank 0's channel to the referee."""
    folder.mkdir()
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    told = [str(size), str(folder / "store"), json.dumps(changes), str(folder / result), str(targets), str(descriptor)]
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), *told],
            env=environ,
            pass_fds=[descriptor] if rank == 0 and descriptor >= 0 else [],
        )
        for rank in range(size)
    ]
