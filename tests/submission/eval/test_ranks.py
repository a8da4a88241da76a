"""Several processes give what one gives: windows are sharded, gradients summed, the order of chunks unchanged."""

from pathlib import Path

import forked
import lab
import pytest
import torch
from rank_process import run

from harness.config.tracks import load_track
from harness.protocol.channel import Channel
from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger
from harness.scoring.loop import score_stream

SHORT_TAIL = 330


def test_three_ranks_equal_one(tmp_path: Path) -> None:
    """Overlapping windows, three a step; the tail has too few for all ranks."""
    one, several = (
        evaluate({"eval_mode": "overlap", "ttt_batch_windows": 3}, size, SHORT_TAIL, tmp_path) for size in (1, 3)
    )
    assert one.keys() == several.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(several[name], tensor, rtol=1e-4, atol=2e-4, msg=name)


def evaluate(changes: dict[str, object], size: int, targets: int, folder: Path) -> dict[str, torch.Tensor]:
    (folder / str(size)).mkdir()
    assert forked.ended(forked.start(run, size, folder / str(size), changes, targets)) == [0] * size
    loaded: dict[str, torch.Tensor] = torch.load(folder / str(size) / "result.pt", weights_only=True)
    return loaded


def test_the_referee_drives_rank_0_and_the_others_follow(tmp_path: Path) -> None:
    stream = lab.markov_stream(vocab_size=64, targets=300)
    nats = {}
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        channel, theirs = Channel.pair()
        ranks = forked.start(run, size, tmp_path / str(size), {"eval_mode": "overlap"}, 300, theirs)
        theirs.close()
        try:
            with EvalClient([channel], load_track("smoke").limits, 64) as client:
                client.prepare()
                client.start()
                ledger = ScoreLedger(stream)
                score_stream(client, stream, ledger, chunk_tokens=client.hello.chunk_tokens, adapt=True)
                client.stop()
            assert forked.ended(ranks) == [0] * size
        finally:
            for process in ranks:
                process.kill()
        nats[size] = ledger.totals()[0]
    assert nats[1] == pytest.approx(nats[2], rel=1e-5)
