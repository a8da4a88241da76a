"""Several seeds as one job: what has a sound record is left alone, what broke off goes on, the rest runs."""

from pathlib import Path

import msgspec
import pytest
from record_samples import make_artifact, make_record, store_run

from harness.progress import Reporter
from harness.run import runs as job
from harness.run.refereed import TRAINED_FILE, Order, Trained
from harness.run.runs import CannotGoOn, RunOutcome


@pytest.fixture
def submit(tmp_path: Path, monkeypatch):
    """Call the job with a stand-in for single runs; returns (seeds that ran, resumed runs, outcomes)."""
    monkeypatch.setenv("GOLF_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("GOLF_KEYS_DIR", str(tmp_path / "keys"))
    sample = make_record(make_artifact(tmp_path / "sample", 0), 0)

    def call(seeds, *, code="", can_resume=True, again=False):
        ran, resumed = [], []
        run = sample.submission
        identity = sample.track.digest, code or run.code_digest, run.config_digest, sample.data.fingerprint

        def outcome(seed):
            run = msgspec.structs.replace(sample.submission, seed=seed)
            return RunOutcome(msgspec.structs.replace(sample, submission=run), None, tmp_path)

        def submit_run(_, seed):
            ran.append(seed)
            return outcome(seed)

        def resume_run(run, **_):
            if not can_resume:
                raise CannotGoOn("the processor changed.", remedy="Start again.")
            resumed.append(run)
            return outcome(int(run.split("-")[1]))

        monkeypatch.setattr(job, "submit_run", submit_run)
        monkeypatch.setattr(job, "resume_run", resume_run)
        monkeypatch.setattr(job, "_identify", lambda *_: identity)
        order = Order(tmp_path, "smoke", None, {}, tmp_path / "records", Reporter())
        outcomes = list(job.submit_seeds(order, seeds, again=again))
        assert [o.record.submission.seed for o, _ in outcomes] == seeds
        new = [outcome.record.submission.seed for outcome, is_new in outcomes if is_new]
        assert sorted(new) == sorted(ran + [int(name.split("-")[1]) for name in resumed])
        return ran, resumed, [outcome for outcome, _ in outcomes]

    return call


def test_seeds_with_a_sound_record_are_not_run_again(submit, tmp_path: Path):
    stored = store_run(tmp_path, 1)
    ran, _, outcomes = submit([1, 2])
    assert ran == [2]
    assert outcomes[0].path == stored.path


def test_another_code_and_a_wish_run_all(submit, tmp_path: Path):
    store_run(tmp_path, 1)
    assert submit([1, 2], code="0" * 64)[0] == [1, 2]
    assert submit([1, 2], again=True)[0] == [1, 2]
    assert submit([1])[0] == []


def test_somebody_elses_record_of_a_seed_does_not_stand_for_ours(submit, tmp_path: Path):
    store_run(tmp_path, 1, keys="theirs")
    store_run(tmp_path, 2)
    assert submit([1, 2])[0] == [1]


def test_a_damaged_record_does_not_count_as_done(submit, tmp_path: Path):
    path = store_run(tmp_path, 1).path
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes([content[-200] ^ 1]) + content[-199:])
    assert submit([1, 2])[0] == [1, 2]


def test_the_first_record_of_a_repeated_seed_counts(submit, tmp_path: Path):
    first = store_run(tmp_path, 1)
    store_run(tmp_path, 1, name="again", nats=11000.0, started_at="2026-11-24T18:00:00Z")
    assert submit([1, 2])[2][0].path == first.path


def leave_broken_off(folder: Path, tmp_path: Path, seed: int) -> None:
    record = make_record(make_artifact(tmp_path / "sample", 0), seed)
    run = record.submission
    folder.mkdir(parents=True)
    trained = Trained(
        track="smoke", track_digest=record.track.digest,
        dataset=record.data.name, data_fingerprint=record.data.fingerprint,
        seed=seed, intent="", code_digest=run.code_digest, config=run.config, parameters=1,
        started_at=record.started_at, environ={}, machine=record.machine, checkpoint={}, loss_curve=[], spans=[],
        isolation={}, kills=[], audit_secret=bytes(32),
    )  # fmt: skip
    (folder / TRAINED_FILE).write_bytes(msgspec.json.encode(trained))


def test_a_run_that_broke_off_goes_on_or_starts_again(submit, tmp_path: Path):
    leave_broken_off(tmp_path / "runs" / "smoke-2-aaa", tmp_path, 2)
    ran, resumed, _ = submit([1, 2, 3])
    assert (ran, resumed) == ([1, 3], ["smoke-2-aaa"])
    assert submit([1, 2, 3], code="0" * 64)[:2] == ([1, 2, 3], [])
    assert submit([1, 2, 3], can_resume=False)[:2] == ([1, 2, 3], [])
