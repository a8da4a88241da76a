"""One result a job: publishing, attempts, locks, damaged files."""

import multiprocessing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.tracks import Hardware
from harness.errors import CouldNotCheck, UsageError
from harness.fleet.queue import Job, Queue, Result


def make_job(queue: Queue, title: str = "a job") -> Job:
    return queue.add(["true"], needs=Hardware(0, 0), title=title)


def make_result(job: Job, attempt: int) -> Result:
    return Result(job.id, attempt, "host", "machine", 1.0, 0, msgspec.Raw(b'{"ok":1}'))


def test_adding_a_job_twice_is_one_job_with_one_result(tmp_path: Path):
    queue = Queue(tmp_path)
    job = make_job(queue)
    assert queue.publish(make_result(job, 1))
    assert make_job(queue) == queue.job(job.id) == job
    assert len(list((tmp_path / "jobs").iterdir())) == 1
    assert queue.result(make_job(queue)) is not None


def test_a_stranger_s_queue_holds_no_result_of_mine(tmp_path: Path, monkeypatch):
    """A checkout may bring .golf/fleet along, and what a job runs in which folder can be known before."""
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path / "stranger"))
    queue = Queue(tmp_path / "queue")
    forged = make_job(queue)
    assert queue.publish(make_result(forged, 1))
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path / "mine"))
    assert queue.result(make_job(queue)) is None


@pytest.mark.parametrize("name", ["code", "data", "harness"])
def test_other_inputs_are_another_job(tmp_path: Path, name: str):
    queue, inputs = Queue(tmp_path), {"code": "1", "data": "2", "harness": "3"}
    first = queue.add(["true"], needs=Hardware(0, 0), title="a job", inputs=inputs)
    again = queue.add(["true"], needs=Hardware(0, 0), title="a job", inputs=dict(reversed(inputs.items())))
    other = queue.add(["true"], needs=Hardware(0, 0), title="a job", inputs=inputs | {name: "other"})
    assert first.id == again.id != other.id
    assert queue.job(other.id).inputs[name] == "other"


def test_many_workers_publish_at_once_and_one_wins(tmp_path: Path):
    queue = Queue(tmp_path)
    job = make_job(queue)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=queue.publish, args=(make_result(job, number),)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = queue.result(job)
    assert found is not None
    assert not queue.publish(make_result(job, 9))
    assert queue.result(job) == found
    assert [path.name for path in (tmp_path / "results").iterdir()] == [f"{job.id}.json"]


def test_an_unknown_or_hostile_job_id_is_refused(tmp_path: Path):
    for name in ("nothing", "../jobs/x", ""):
        with pytest.raises(UsageError, match="has no job"):
            Queue(tmp_path).job(name)


@given(damage=st.binary(max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_damaged_result_is_named_and_never_taken_for_one(tmp_path_factory, damage: bytes):
    queue = Queue(tmp_path_factory.mktemp("queue"))
    job = make_job(queue)
    (queue.folder / "results" / f"{job.id}.json").write_bytes(damage)
    with pytest.raises(CouldNotCheck, match="is damaged"):
        queue.result(job)
