"""Every rank gets its own descriptors of all shards: together more than a process may usually open."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_run

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.data.dataset import write_shard
from harness.errors import CouldNotCheck
from harness.progress import Reporter
from harness.run.artifact import seal_submission
from harness.run.cells import RunContext
from harness.run.phases import train

TRAIN = """
from harness.protocol.session import TrainSession
session = TrainSession.connect()
shards = session.ready()
(session.output_dir / f"rank-{session.rank}").write_text(str(len(shards)))
session.done()
"""
RANKS, SHARDS, SOFT_LIMIT = 3, 60, 128


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunContext, tuple[Path, ...]]]:
    house, run_dir = tmp_path / "house", tmp_path / "run"
    tiny_run.make_house(house)
    (house / "mini" / "train_entry.py").write_text(TRAIN)
    run_dir.mkdir()
    monkeypatch.setattr(Track, "ranks", property(lambda _: RANKS))
    context = RunContext(
        load_track("smoke"), 1, run_dir, seal_submission(house / "mini", run_dir), {}, Reporter(), Ledger()
    )
    shard = tmp_path / "shard.bin"
    write_shard(shard, np.ones(64))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, hard))
    yield context, (shard,) * SHARDS
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_all_ranks_get_all_shards(run):
    context, shards = run
    train(context, shards)
    counts = {path.name: path.read_text() for path in context.checkpoint_dir.iterdir()}
    assert counts == {f"rank-{rank}": str(SHARDS) for rank in range(RANKS)}


def test_a_system_that_allows_no_more_is_told(run, monkeypatch: pytest.MonkeyPatch):
    context, shards = run
    monkeypatch.setattr("harness.run.phases.resource.setrlimit", lambda *_: None)
    with pytest.raises(CouldNotCheck, match="60 train shards for 3 ranks are more open files") as caught:
        train(context, shards)
    assert "ulimit" in caught.value.remedy
