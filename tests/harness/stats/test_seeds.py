"""Pooling seeds: what is pooled, what is refused, and which field is named."""

import math
import tempfile
from functools import cache
from pathlib import Path

import msgspec
import pytest
from record_samples import make_artifact, make_record, make_score

from harness.errors import UsageError
from harness.record.canonical import canonical_digest
from harness.record.predicate import BudgetEntry, RunRecord, Sizes, Training
from harness.stats.seeds import aggregate, compare, describe_pools, pools
from harness.units import Margin


@cache
def sample() -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        return make_record(make_artifact(Path(folder), 1), 1, training=None)


def record(seed: int, nats: float, *, config=None, size: int = 900, train_s: float = 80.0) -> RunRecord:
    config = config or {"MATRIX_LR": 0.025}
    run = sample().submission
    return msgspec.structs.replace(
        sample(),
        run_id=f"run-{seed}",
        started_at=f"2026-11-24T17:00:{seed % 60:02d}Z",
        submission=msgspec.structs.replace(run, config=config, config_digest=canonical_digest(config), seed=seed),
        budgets=[BudgetEntry("train", train_s, 90.0)],
        sizes=Sizes(100, 300, size - 100, size, 1000),
        scores=[make_score("final", nats)],
    )


def test_three_seeds_are_summed_up_with_the_worst_bytes_and_clock():
    found = aggregate([record(42, 12010.0, size=950), record(1337, 12000.0, train_s=89.0), record(2025, 12020.0)])
    assert found.seeds == (42, 1337, 2025)
    assert found.bpb.mean == pytest.approx(12010.0 / 9000 / math.log(2), rel=1e-14)
    assert found.nats_per_token.sample_std == pytest.approx(10.0 / 4000, rel=1e-9)
    assert (found.worst_bytes.seed, found.worst_bytes.value, found.worst_bytes.limit) == (42, 950, 1000)
    assert (found.worst_clocks["train"].seed, found.worst_clocks["train"].value) == (1337, 89.0)


@pytest.mark.parametrize("field", ["track", "submission", "code", "config", "data", "kind"])
def test_another_origin_is_another_pool(field):
    first, other = record(1, 12000.0), record(2, 12000.0)
    replace = msgspec.structs.replace
    other = {
        "track": lambda: replace(other, track=replace(other.track, digest="e" * 64)),
        "submission": lambda: replace(other, submission=replace(other.submission, name="another")),
        "code": lambda: replace(other, submission=replace(other.submission, code_digest="e" * 64)),
        "config": lambda: record(2, 12000.0, config={"MATRIX_LR": 0.02}),
        "data": lambda: replace(other, data=replace(other.data, fingerprint="e" * 64)),
        "kind": lambda: replace(other, kind="self-reported"),
    }[field]()
    assert sorted(pools([first, other]), key=str) == sorted([[first], [other]], key=str)


def test_partial_scores_are_refused():
    partial = record(1, 12000.0)
    scores = [msgspec.structs.replace(partial.scores[0], whole_set=False)]
    with pytest.raises(UsageError, match="whole validation set"):
        aggregate([msgspec.structs.replace(partial, scores=scores)])


def test_different_texts_are_not_compared():
    one = aggregate([record(1, 12000.0), record(2, 12001.0)])
    shorter = record(1, 12000.0)
    score = msgspec.structs.replace(shorter.scores[0], targets=3999)
    other = aggregate([msgspec.structs.replace(shorter, scores=[score])])
    with pytest.raises(UsageError, match="differ in the text"):
        compare(other, one, Margin(0.0, "bpb"))


def test_pools_keep_the_first_result_of_a_seed(tmp_path: Path):
    first, repeat, second = record(1, 12000.0), record(1, 11000.0), record(2, 12010.0)
    repeat = msgspec.structs.replace(repeat, started_at="2026-11-25T00:00:00Z")
    assert pools([repeat, second, first]) == [[first, second]]
    (line,) = describe_pools([repeat, second, first])
    assert "sample std" in line
    assert "population std" in line


def trained(seed: int, steps: int, ended: str = "complete") -> RunRecord:
    return msgspec.structs.replace(record(seed, 12000.0 + seed), training=Training(steps, ended))


def test_seeds_that_took_other_numbers_of_steps_are_pooled_with_a_warning():
    (text,) = describe_pools([trained(1, 120), trained(2, 78, "clock"), trained(3, 120)])
    assert "WARNING: the seeds took different numbers of steps, 78 to 120, 1 cut short by the clock" in text
    (text,) = describe_pools([trained(1, 120), trained(2, 120)])
    assert "WARNING" not in text
    (text,) = describe_pools([record(1, 12000.0), record(2, 12001.0)])  # of before there were steps in a record
    assert "WARNING" not in text


def test_a_pool_that_can_not_be_summed_up_says_why():
    empty = [msgspec.structs.replace(record(seed, 12000.0), scores=[]) for seed in (1, 2)]
    (text,) = describe_pools(empty)
    assert "seeds 1, 2 are not summed up: record run-1 has no final score" in text
