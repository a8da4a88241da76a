"""Exactly one result a job, whatever dies: workers, the driver, jobs started twice."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cells import living, wait_for
from fleet_jobs import counted, ran

from harness.config.tracks import Hardware
from harness.errors import ExitCode, UsageError
from harness.fleet.driver import drive, exit_code, fold
from harness.fleet.engines import LocalEngine, make_engine, worker_command
from harness.fleet.queue import Queue


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue")


def run_local(queue: Queue, jobs, *, slots: int = 2, gpus: tuple[str, ...] = (), attempts: int = 3):
    engine = LocalEngine(queue, slots, gpus)
    try:
        return drive(queue, jobs, engine, attempts=attempts)
    finally:
        engine.close()


def test_every_job_runs_once_and_the_gravest_code_counts(queue: Queue, tmp_path: Path):
    log = tmp_path / "ran"
    jobs = [counted(queue, log, f"job{i}", code=1 if i == 2 else 0) for i in range(4)]
    outcomes = run_local(queue, jobs)
    assert sorted(ran(log)) == ["job0", "job1", "job2", "job3"]
    assert exit_code(outcomes) is ExitCode.RULE_BROKEN
    assert [row.verdict for row in fold(queue, outcomes)] == ["PASS", "PASS", "FAIL", "PASS"]


def test_a_job_that_cannot_run_is_tried_again_and_then_given_up(queue: Queue, tmp_path: Path):
    log = tmp_path / "ran"
    outcomes = run_local(queue, [counted(queue, log, "bad", code=3)], attempts=2)
    assert ran(log) == ["bad", "bad"]
    assert outcomes[0].result is None
    assert exit_code(outcomes) is ExitCode.COULD_NOT_CHECK
    assert fold(queue, outcomes)[0].verdict == "NO RESULT"


def test_wrong_usage_is_no_result_and_is_tried_once_a_drive(queue: Queue, tmp_path: Path):
    code, log = tmp_path / "code.py", tmp_path / "ran"
    head = f"import json; open({str(log)!r}, 'a').write('ran ')\n"
    code.write_text(head + "print(json.dumps({'message': 'wrong checkout'})); raise SystemExit(2)")
    job = queue.add([sys.executable, str(code)], needs=Hardware(0, 0), title="a job")
    for drives in (1, 2):
        outcomes = run_local(queue, [job])
        assert exit_code(outcomes) is ExitCode.USAGE
        (row,) = fold(queue, outcomes)
        assert (row.verdict, row.attempts) == ("ERROR", drives)
        assert "wrong checkout" in row.note
        assert queue.result(job) is None
    code.write_text(head + "print(json.dumps({'ok': 1}))")
    (outcome,) = run_local(queue, [job])
    assert outcome.result is not None
    assert ran(log) == ["ran"] * 3


def test_a_job_started_twice_runs_once(queue: Queue, tmp_path: Path):
    log = tmp_path / "ran"
    job = counted(queue, log, "once", wait=0.5)
    workers = [subprocess.Popen(worker_command(queue, job)) for _ in range(3)]
    assert {worker.wait() for worker in workers} == {0}
    assert ran(log) == ["once"]
    assert len(queue.attempts(job)) == 1


def test_workers_killed_at_random_points_lose_nothing_and_count_nothing_twice(queue: Queue, tmp_path: Path):
    log, chance = tmp_path / "ran", random.Random(1)
    jobs = [counted(queue, log, f"job{i}", wait=0.3) for i in range(4)]
    engine, stop = LocalEngine(queue, 2, ()), threading.Event()

    def killer() -> None:
        for _ in range(4):
            if stop.wait(chance.uniform(0.05, 0.6)):
                return
            for process in list(engine._running)[:1]:
                process.kill()

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        outcomes = drive(queue, jobs, engine, attempts=10)
    finally:
        stop.set()
        thread.join()
        engine.close()
    assert all(outcome.result is not None for outcome in outcomes)
    # A worker killed inside a write leaves its hidden temporary file behind; a result is a whole file under its name.
    assert len(list((queue.folder / "results").glob("[!.]*"))) == 4
    assert set(ran(log)) == {"job0", "job1", "job2", "job3"}


DRIVER = """
import sys
from pathlib import Path
from harness.fleet.driver import drive
from harness.fleet.engines import LocalEngine
from harness.fleet.queue import Queue
queue = Queue(Path(sys.argv[1]))
jobs = [queue.job(path.stem) for path in (queue.folder / "jobs").iterdir()]
drive(queue, jobs, LocalEngine(queue, 2, ()), attempts=5)
"""


def test_a_killed_driver_resumes_where_it_was(queue: Queue, tmp_path: Path):
    log = tmp_path / "ran"
    jobs = [counted(queue, log, f"job{i}", wait=0.5) for i in range(4)]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(queue.folder)])
    wait_for(log.exists)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    outcomes = run_local(queue, jobs)
    assert all(outcome.result for outcome in outcomes)
    assert sorted(ran(log)) == ["job0", "job1", "job2", "job3"]


@pytest.mark.parametrize("when", ["its attempt is written", "its command runs"])
def test_a_killed_worker_takes_its_command_with_it(queue: Queue, tmp_path: Path, when: str):
    text = f"import time; open({str(tmp_path / 'runs')!r}, 'w').close(); time.sleep(600)"
    job = queue.add([sys.executable, "-c", text], needs=Hardware(0, 0), title="slow")
    worker = subprocess.Popen(worker_command(queue, job))
    begun = {"its attempt is written": lambda: queue.attempts(job), "its command runs": (tmp_path / "runs").exists}
    wait_for(begun[when])
    worker.kill()
    worker.wait()
    wait_for(lambda: not living(str(tmp_path)))
    assert queue.result(job) is None


def test_gpus_are_given_exclusively(queue: Queue, tmp_path: Path):
    seen = tmp_path / "seen"
    text = (
        "import json,os,time; g=os.environ['CUDA_VISIBLE_DEVICES']; "
        f"open({str(seen)!r},'a').write(f'+{{g}} '); time.sleep(0.5); open({str(seen)!r},'a').write(f'-{{g}} '); "
        "print(json.dumps({}))"
    )
    jobs = [
        queue.add([sys.executable, "-c", text + f"#{i}"], needs=Hardware(0, 1), title=f"gpu job {i}") for i in range(4)
    ]
    run_local(queue, jobs, slots=4, gpus=("0", "1"))
    held: set[str] = set()
    for event in seen.read_text().split():
        if event[0] == "+":
            assert event[1:] not in held
            held.add(event[1:])
        else:
            held.remove(event[1:])
    assert {attempt.gpus for job in jobs for attempt in queue.attempts(job)} == {"0", "1"}


RESERVING = """
import json, sys, time
from harness.config.tracks import Hardware
from harness.run.reserve import reserved
with reserved(Hardware(int(sys.argv[1]), 0)):
    time.sleep(0.4)
    print(json.dumps({}))
"""


def test_a_pool_starts_no_run_that_would_find_its_cores_taken(queue: Queue, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path / "cache"))
    cores = len(os.sched_getaffinity(0))
    jobs = []
    for number, wanted in enumerate([cores, 1, 1, cores]):
        command = [sys.executable, "-c", RESERVING, str(wanted), str(number)]
        jobs.append(queue.add(command, needs=Hardware(wanted, 0), title=f"run {number}"))
    engine = make_engine("local", queue, slots=4, options={})
    try:
        outcomes = drive(queue, jobs, engine, attempts=1)
    finally:
        engine.close()
    assert [outcome.result is not None for outcome in outcomes] == [True] * 4


def test_a_job_with_more_gpus_than_there_are_is_refused(queue: Queue, tmp_path: Path):
    job = counted(queue, tmp_path / "ran", "big", gpus=8)
    with pytest.raises(UsageError, match="needs 8 GPUs"):
        run_local(queue, [job], gpus=("0",))


def test_an_unknown_engine_and_option_are_named(queue: Queue):
    with pytest.raises(UsageError, match="wanted one of local, slurm, ray"):
        make_engine("cloud", queue, slots=1, options={})
    with pytest.raises(UsageError, match="partition"):
        make_engine("ray", queue, slots=1, options={"partition": "x"})


@pytest.mark.parametrize("output", ["rubbish", '{"verdict": "ERROR", "message": "no disk"}'])
def test_output_without_a_verdict_is_no_result_whatever_the_exit_code(queue: Queue, tmp_path: Path, output: str):
    """A parent that ignores SIGCHLD makes every exit code 0."""
    job = queue.add([sys.executable, "-c", f"print({output!r})"], needs=Hardware(0, 0), title="rubbish")
    outcomes = run_local(queue, [job], attempts=1)
    assert exit_code(outcomes) is ExitCode.COULD_NOT_CHECK
    assert list((queue.folder / "results").iterdir()) == []
