"""A rank that dies ends the run with its own error, not with the others' broken connections: cells, gloo."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.clock.spans import Ledger
from harness.config.tracks import load_track
from harness.data.dataset import write_shard
from harness.progress import Reporter
from harness.protocol.messages import Kind, Message
from harness.run.artifact import seal_submission
from harness.run.cells import RunContext, phase_cell
from harness.run.conversation import how_it_ended
from harness.sandbox.answers import RankFailed, RankGone, Ranks

ROOT = Path(__file__).resolve().parents[3]
RANKS, VICTIM = 2, 1
LIMIT_S = 900.0  # of every clock here: no busy machine overruns it
SMALL = {
    "MODEL_DIM": "32", "MAMBA3_HEADDIM": "16", "MAMBA3_D_STATE": "16", "NUM_LAYERS": "2", "TRAIN_SEQ_LEN": "32",
    "TRAIN_BATCH_TOKENS": "192", "ITERATIONS": "0", "WARMDOWN_ITERS": "10",
}  # fmt: skip
Progress = Callable[[int, Message], None]


def failure(folder: Path, bad_tokens: np.ndarray | None = None, on_progress: Progress = lambda *_: None) -> str:
    """How the referee words the end of a training run in which only the victim's shard is bad."""
    run_dir, checkpoint = folder / "run", folder / "run" / "checkpoint"
    run_dir.mkdir()
    sealed = seal_submission(ROOT / "submission", run_dir)
    context = RunContext(load_track("smoke"), 1, run_dir, sealed, SMALL, Reporter(), Ledger())
    checkpoint.mkdir()
    tokens = np.random.default_rng(1).integers(0, 1024, 20_000)
    with phase_cell(
        context, "train", limit_s=LIMIT_S, ranks=RANKS, write=(checkpoint,),
        extra={"GOLF_OUTPUT_DIR": str(checkpoint), "GOLF_SETUP_S": str(LIMIT_S)},
    ) as cell:  # fmt: skip
        deadline = time.monotonic_ns() + int(LIMIT_S * 1e9)
        ranks = Ranks(cell.channels)
        ranks.deadline_ns = deadline
        ranks.collect(Kind.READY)
        for rank, channel in enumerate(cell.channels):
            bad = bad_tokens is not None and rank == VICTIM
            shard = folder / f"{rank}.bin"
            write_shard(shard, bad_tokens if bad else tokens)
            with shard.open("rb") as file:
                channel.send(Message(Kind.START, time.monotonic_ns(), 1), (file.fileno(),))
        with pytest.raises(RankFailed) as caught:
            ranks.collect(Kind.DONE, progress=on_progress)
        failed = caught.value
        return how_it_ended(cell, failed.rank)[0] if isinstance(failed, RankGone) else str(failed)


@pytest.mark.slow
def test_a_rank_with_a_bad_shard_is_heard_and_not_those_that_wait_for_it(tmp_path):
    said = failure(tmp_path, np.full(20_000, 1024))
    assert said == f"rank {VICTIM} says: shard-000000 holds token 1024; VOCAB_SIZE is 1024."


def test_a_rank_that_is_killed_is_named_and_not_those_that_lose_it(tmp_path):
    """The victim's mapped shard loses its bytes while it trains: the kernel ends the process with a bus error."""

    def truncate(rank: int, message: Message) -> None:
        if rank == VICTIM:
            os.truncate(tmp_path / f"{VICTIM}.bin", 1024)

    assert failure(tmp_path, on_progress=truncate) == f"rank {VICTIM} was killed by signal 7"
