"""Several processes give what one gives: windows are sharded, gradients summed, the order of chunks unchanged."""

from pathlib import Path

import forked
import lab
import pytest
from rank_process import run

from harness.config.tracks import load_track
from harness.protocol.messages import Channel
from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger
from harness.scoring.loop import score_stream

SHORT_TAIL = 330
"""Targets: the last chunk has too few windows for all ranks, and so has each chunk's last step."""


def test_the_referee_drives_rank_0_and_three_ranks_equal_one(tmp_path: Path) -> None:
    stream = lab.markov_stream(vocab_size=64, targets=SHORT_TAIL)
    changes = {"eval_mode": "overlap", "eval_overlap": 4, "ttt_batch_windows": 3}
    nats = {}
    for size in (1, 3):
        (tmp_path / str(size)).mkdir()
        channel, theirs = Channel.pair()
        ranks = forked.start(run, size, tmp_path / str(size), changes, SHORT_TAIL, theirs)
        theirs.close()
        try:
            with EvalClient([channel], load_track("smoke").limits, 64) as client:
                client.prepare()
                client.start()
                ledger = ScoreLedger(stream)
                score_stream(client, ledger, adapt=True)
                client.stop()
            assert forked.ended(ranks) == [0] * size
        finally:
            for process in ranks:
                process.kill()
        nats[size] = ledger.nats
    assert nats[3] == pytest.approx(nats[1], abs=3e-4)
