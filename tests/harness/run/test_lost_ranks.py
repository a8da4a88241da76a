"""A rank that is killed, runs out of memory or comes late: one message that names it, no process, no false record.

Rank 0 waits for the others for ever here, as it does in a collective of NCCL, which tells nobody that a rank is gone.
"""

from pathlib import Path

import msgspec
import pytest
import tiny_run
from tiny_run import assert_nothing_false, cell_processes

from harness.config.tracks import Track, load_track
from harness.errors import RuleBroken
from harness.run import runs

TRAIN = """
import os, signal, time
rank = int(os.environ["RANK"])
def fault():
    {fault}
{early}
from harness.protocol.session import TrainSession
session = TrainSession.connect()
if rank == 1 and not {early!r}:
    fault()
time.sleep(0 if {works!r} else 600)
session.ready()
(session.output_dir / f"part-{{rank}}").write_bytes(b"x")
session.done()
"""
EVAL = """
import os, signal, time
import torch
from harness.protocol.serve import serve_predictor
from .eval_entry import Bigram, build
rank = int(os.environ["RANK"])
class Ranked(Bigram):
    def follow(self):
        {fault}
    def stop(self):
        pass
    def score(self, inputs):
        time.sleep(600)
def make(context):
    made = build(context)
    return Ranked(made.counts, made.weight, made.adaptive)
serve_predictor(make)
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A submission of two ranks, and a short set-up."""
    house = tmp_path / "house"
    tiny_run.make_house(house)
    tiny_run.use_house(house, monkeypatch.setattr, monkeypatch.setenv)
    monkeypatch.setattr(Track, "ranks", property(lambda _: 2))
    return house


def end_of(house: Path) -> RuleBroken:
    """How a run of the house ends, with nothing left behind."""
    with pytest.raises(RuleBroken) as caught:
        tiny_run.run_tiny(house)
    assert_nothing_false(house)
    assert cell_processes(house) == []
    kept = [{path.parent for path in house.glob(f"runs/*/{name}")} for name in ("checkpoint", "trained.json")]
    assert kept[0] == kept[1]  # a training that ended is kept, and nothing that is half-written
    return caught.value


def with_train(house: Path, fault: str, *, early: bool = False, works: bool = False) -> None:
    text = TRAIN.format(fault=fault, early="if rank == 1: fault()" if early else "", works=works)
    (house / "mini" / "train_entry.py").write_text(text)


def with_eval(house: Path, fault: str) -> None:
    (house / "mini" / "ranked.py").write_text(EVAL.format(fault=fault))
    manifest = house / "mini" / "submission.toml"
    text = manifest.read_text().replace('eval = "eval_entry"', 'eval = "ranked"')
    manifest.write_text('eval_ranks = "all"\n' + text)


@pytest.mark.rule("S3-PROTOCOL")
@pytest.mark.parametrize(("faulty", "place"), [(with_train, "train: in set-up"), (with_eval, "final:")])
def test_a_rank_that_is_killed_is_named_though_rank_0_waits_for_it(house: Path, faulty, place: str):
    faulty(house, KILL)
    error = end_of(house)
    assert error.rule == "S3-PROTOCOL"
    assert error.message.replace(",", "").startswith(f"{place} rank 1 was killed by signal 9")
    assert "or somebody ended it" in error.remedy


@pytest.mark.rule("A1-TRAIN-CLOCK")
def test_a_rank_that_does_not_come_in_time_is_named(house: Path, monkeypatch: pytest.MonkeyPatch):
    smoke = load_track("smoke")
    short = msgspec.structs.replace(smoke, limits=msgspec.structs.replace(smoke.limits, setup_s=6.0))
    monkeypatch.setattr(runs, "load_track", lambda _: short)
    with_train(house, "time.sleep(600)", early=True)
    error = end_of(house)
    assert error.rule == "A1-TRAIN-CLOCK"
    assert "in set-up, not done after 6 s" in error.message
    assert "rank 1 never connected" in error.message


@pytest.mark.rule("S3-PROTOCOL")
def test_a_rank_that_leaves_before_the_end_of_the_evaluation_is_named(house: Path):
    with_eval(house, "return")
    assert end_of(house).message.startswith("final: rank 1 ended with exit code 0 before it was done")
