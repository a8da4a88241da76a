"""Nothing that was paid for is lost, and what the machine did is not the submission's fault."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
from tiny_run import stored

from harness.config.tracks import load_track
from harness.errors import CouldNotCheck, HarnessError, Interrupted, RuleBroken, UsageError
from harness.progress import Reporter
from harness.record import dsse
from harness.rules import Finding, Verdict
from harness.run import conversation, evaluate, refereed
from harness.run import runs as job
from harness.run.cells import Resumed
from harness.run.conversation import failure
from harness.run.refereed import nothing_half_written
from harness.run.verdicts import causal_finding


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    house = tmp_path / "house"
    tiny_run.make_house(house)
    tiny_run.use_house(house, monkeypatch.setattr, monkeypatch.setenv)
    return house


def test_a_failed_evaluation_costs_no_training_and_a_failed_comparison_no_score(house: Path, monkeypatch):
    real = refereed.evaluate

    def fails_once(context, stage, *_, begins=None, **__):
        if begins:
            begins()
        log = "Last lines of /home/ada/run/logs/x.log:\n    what it printed"
        raise RuleBroken("A2-EVAL-CLOCK", f"{stage}: not done after 120.0 s.", remedy="Adapt less.", log=log)

    monkeypatch.setattr(refereed, "evaluate", fails_once)
    with pytest.raises(RuleBroken, match="not done after") as caught:
        tiny_run.run_tiny(house)
    assert "Training and packaging are kept: `harness submit --resume" in caught.value.remedy

    def fails_in_the_comparison(context, stage, *others, **options):
        return (fails_once if stage == "float" else real)(context, stage, *others, **options)

    monkeypatch.setattr(refereed, "evaluate", fails_in_the_comparison)
    monkeypatch.setattr(evaluate, "run_replica", lambda *_, **__: fails_once(None, "replica-1"))
    record = tiny_run.resume_tiny(house).record
    names = [span.name for span in record.spans]
    assert (names.count("train"), names.count("package")) == (1, 1)
    assert names.index("package") < names.index("resumed") < names.index("eval")
    assert [score.stage for score in record.scores] == ["packed", "final"]
    (finding,) = [finding for finding in record.findings if finding.rule == "S3-PROTOCOL"]
    assert finding.verdict is Verdict.WARN
    assert "'float', for comparison, was left out: float: not done after" in finding.message
    assert "replica-1: not done after" in next(f.message for f in record.findings if f.rule == "S4-STATE-DECLARED")
    (path,) = stored(house, "runs")
    signed = dsse.decode(path.read_bytes()).payload.decode()
    assert "in the scored pass: A2-EVAL-CLOCK: final: not done after" in record.resumes[0]
    assert "/home/ada" not in signed  # what is published names nobody's folders
    assert "what it printed" not in signed


def test_what_ends_in_the_warm_up_has_not_seen_the_text(house: Path, monkeypatch):
    def fails(context, *_, **__):
        raise failure(context, "eval", "not warm after 120.0 s", remedy="Compile less.")

    monkeypatch.setattr(evaluate, "warm_up", fails)
    with pytest.raises(HarnessError, match="not warm") as caught:
        tiny_run.run_tiny(house)
    assert "Training and packaging are kept" in caught.value.remedy
    (run,) = job.runs_dir().iterdir()
    assert [(resume.saw_text, resume.reached) for resume in refereed.going_on_again(refereed.recall(run))] == [
        (False, "packaging or evaluation")
    ]


@pytest.mark.parametrize(("packed", "verdict"), [(True, Verdict.PASS), (False, Verdict.WARN)])
def test_who_fails_in_the_pass_of_the_packed_model_gets_no_clean_audit(packed: bool, verdict: Verdict):
    """Without that pass no row can be drawn against its score; a float pass that fails costs nothing of the audits."""
    found = causal_finding(Finding("C1-CAUSAL", Verdict.PASS, "as drawn."), [], without_packed=not packed)
    assert found.verdict is verdict
    assert found.message.startswith("as drawn.")


def run_without_a_score(house: Path, monkeypatch, **options: object) -> None:
    """A run that trains and packages, and whose evaluation is late."""

    def fails(*_, **__):
        raise RuleBroken("A2-EVAL-CLOCK", "late.", remedy="")

    with monkeypatch.context() as patch:
        patch.setattr(refereed, "evaluate", fails)
        with pytest.raises(RuleBroken):
            tiny_run.run_tiny(house, **options)


def test_a_packed_model_that_was_changed_is_not_evaluated(house: Path, monkeypatch):
    run_without_a_score(house, monkeypatch)
    (model,) = house.glob("runs/*/artifact/model.bin")
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(CouldNotCheck, match="not as packaging left it"):
        tiny_run.resume_tiny(house)


@pytest.mark.parametrize("module", ["describe_entry", "eval_entry", "below/imported"])
def test_a_typing_error_in_any_module_is_found_before_anything_is_announced(house: Path, module: str):
    path = house / "mini" / f"{module}.py"
    path.parent.mkdir(exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else ['"""Imported."""']
    path.write_text("\n".join([*lines, "def broken(:"]))
    with pytest.raises(UsageError, match=rf"syntax error in {module}\.py, line {len(lines) + 1}: ") as raised:
        tiny_run.run_tiny(house)
    assert "\n" not in str(raised.value)
    assert not stored(house, "intents")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs that can go on, one that has no tries left, and one that was not trained."""
    monkeypatch.setenv("GOLF_RUNS_DIR", str(tmp_path))
    trained = {"1-smoke-7": (7, "smoke"), "2-smoke-42": (42, "smoke"), "3-other-42": (42, "other")}
    trained["4-smoke-42"] = 42, "smoke"

    def recall(path: Path) -> SimpleNamespace:
        if path.name not in trained:
            raise CouldNotCheck("its training did not end.", remedy="")
        seed, track = trained[path.name]
        tries = refereed.MOST_AGAIN + 1 if path.name == "4-smoke-42" else 0
        resumes = [Resumed("", "the scored pass", "")] * tries
        return SimpleNamespace(seed=seed, track=track, resumes=resumes, reached="the scored pass", ended="", model="")

    for name in [*trained, "5-smoke-7"]:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(refereed, "recall", recall)
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "found"),
    [({}, "3-other-42"), ({"seed": 7}, "1-smoke-7"), ({"seed": 42, "track": "smoke"}, "2-smoke-42")],
)
def test_the_newest_run_is_of_what_was_asked_for(runs: Path, wanted: dict[str, object], found: str):
    assert job.find_run("newest", {name: (value, name) for name, value in wanted.items()}).name == found


def test_the_newest_run_is_never_another_submission_s_or_data_set_s(house: Path, monkeypatch):
    run_without_a_score(house, monkeypatch, environ={"BIGRAM_WEIGHT": "0.8"})
    (run_dir,) = house.glob("runs/*")
    asked = {"submission_dir": house / "mini", "dataset_name": "tiny", "environ": {"BIGRAM_WEIGHT": "0.8"}}

    def resume(**changes):
        records = house / "records"
        return job.resume_run("newest", records_dir=records, progress=Reporter(), **{**asked, **changes})

    with pytest.raises(UsageError, match=rf"is not of these variables\. (?s:.*)--resume {run_dir.name}"):
        resume(environ={})
    with monkeypatch.context() as patch:
        patch.setattr(job, "open_dataset", lambda *_: SimpleNamespace(fingerprint="ab" * 32))
        with pytest.raises(UsageError, match="the newest that can be resumed, is not of data set other"):
            resume(dataset_name="other")
    source = house / "mini" / "eval_entry.py"
    code = source.read_text()
    source.write_text(code + "\n")
    with pytest.raises(UsageError, match=r"is not of the code in (?s:.*)mini now"):
        resume()
    source.write_text(code)
    assert resume().record.submission.seed == 1


def test_in_a_folder_that_is_no_run_nothing_is_written(runs: Path):
    with pytest.raises(CouldNotCheck, match="its training did not end"):
        tiny_run.resume_tiny(runs, "5-smoke-7")
    assert not list((runs / "5-smoke-7").iterdir())


def test_another_seed_s_run_is_never_taken(runs: Path):
    with pytest.raises(UsageError, match=r"run 3-other-42, .* is not of seed 1"):
        job.find_run("newest", {"seed": (1, "seed 1")})
    with pytest.raises(UsageError, match="is not of seed 42"):
        job.find_run("1-smoke-7", {"seed": (42, "seed 42")})
    with pytest.raises(CouldNotCheck, match="its training did not end"):
        job.find_run("5-smoke-7", {"seed": (7, "seed 7")})


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_says_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool):
    monkeypatch.setattr(refereed, "kept_files", lambda _: ("checkpoint",) if kept else ())
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(Interrupted) as caught, nothing_half_written(tmp_path):
        raise KeyboardInterrupt
    assert (tmp_path / "checkpoint").exists() == kept
    assert (f"submit --resume {tmp_path.name}` goes on" in str(caught.value)) == kept


def context(tmp_path: Path, taken: float, paused_s: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        track=load_track("smoke"),
        run_dir=tmp_path,
        oom_kills=conversation.killed_for_memory(),
        machine=SimpleNamespace(others_took=lambda *_, seen: 0.0 if seen else taken, paused_s=lambda _: paused_s),
        log_file=lambda cell: tmp_path / f"{cell}.log",
    )


@pytest.mark.rule("S7-OWN-MACHINE")
@pytest.mark.parametrize(("taken", "kind"), [(0.43, CouldNotCheck), (0.01, RuleBroken)])
def test_a_limit_that_passed_while_others_had_the_processors_says_something_about_the_machine(tmp_path, taken, kind):
    late = failure(context(tmp_path, taken), "final", "not done after 60.0 s", rule="A2-EVAL-CLOCK", since_ns=1)
    assert type(late) is kind
    assert ("other processes, or a quota, took 43% of the processors" in str(late)) == (kind is CouldNotCheck)
    assert type(failure(context(tmp_path, taken), "final", "no SLAB within 60 s", since_ns=1)) is kind
    # A replica that hid its own time there gets no other try: only others that were seen count.
    assert type(failure(context(tmp_path, taken), "replica-1", "late", since_ns=1, seen=True)) is RuleBroken
    # Who stops the referee stops a replica's time too.
    paused = failure(context(tmp_path, 0.0, 30.0), "replica-1", "late", since_ns=1, seen=True)
    assert "the referee was stopped for 30 s" in paused.message
    assert type(paused) is CouldNotCheck
    # What no load can cause is a broken rule on any machine.
    assert type(failure(context(tmp_path, taken), "final", "rank 0 sent START where DONE was awaited")) is RuleBroken


@pytest.mark.parametrize("log", ["OSError: [Errno 28] No space left on device\n", ""])
@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_is_no_broken_rule_and_a_word_about_one_is_no_excuse(tmp_path: Path, monkeypatch, full, log):
    def allocate(*_: object) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(conversation.os, "posix_fallocate", allocate)
    (tmp_path / "train.log").write_text(log)  # which can't be written either
    found: HarnessError = failure(context(tmp_path, 0.0), "train", "rank 0 ended with exit code 1")
    assert isinstance(found, CouldNotCheck if full else RuleBroken)
    assert not full or f"the disk of {tmp_path} is full" in str(found)


@pytest.mark.parametrize("flags", [os.ST_NOEXEC, 0])
def test_a_folder_from_which_no_library_is_loaded_is_the_machine_s_fault(tmp_path: Path, monkeypatch, flags: int):
    monkeypatch.setattr(conversation.os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    (tmp_path / "final.log").write_text("ImportError: k.so: failed to map segment from shared object\n")
    (tmp_path / "replica-1.log").write_text((tmp_path / "final.log").read_text())
    found = failure(context(tmp_path, 0.0), "final", "rank 0 ended with exit code 1")
    assert (type(found) is CouldNotCheck, "is mounted noexec" in found.message) == (bool(flags), bool(flags))
    assert type(failure(context(tmp_path, 0.0), "replica-1", "rank 0 ended", seen=True)) is RuleBroken


@pytest.mark.parametrize(
    ("file", "told"), [("multiprocessing/connection.py", True), ("own/cache.py", False)], ids=["workers", "a file"]
)
def test_workers_of_a_data_loader_that_may_not_meet_are_named(tmp_path: Path, file: str, told: bool):
    """They are refused a socket and hang: the clock runs out, and only the log shows why."""
    error = f'  File "/usr/lib/python3.11/{file}", line 600, in __init__\nPermissionError: Operation not permitted\n'
    (tmp_path / "package.log").write_text(error)
    found = failure(context(tmp_path, 0.0), "package", "not done after 60.0 s", rule="A2-EVAL-CLOCK", remedy="Hurry.")
    assert ("a DataLoader needs num_workers=0" in found.remedy) == told
    assert found.remedy.endswith("Hurry.")


@pytest.mark.parametrize(
    "line", ["MemoryError", "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory"]
)
def test_a_phase_out_of_memory_is_told_the_limit(line: str, tmp_path: Path):
    (tmp_path / "train.log").write_text(f"Traceback (most recent call last):\n  File x\n{line}\n")
    error = failure(context(tmp_path, 0.0), "train", "rank 0 ended with exit code 1 before it was done")
    assert "out of memory" in error.remedy
    assert f"{load_track('smoke').limits.memory_bytes:,} bytes a process" in error.remedy


@pytest.mark.parametrize(
    ("there", "mode", "machine"), [(4 << 30, "0", True), (64 << 30, "0", False), (64 << 30, "2", True)]
)
def test_memory_that_the_track_allows_and_the_machine_lacks_is_no_broken_rule(
    there: int, mode: str, machine: bool, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(conversation.psutil, "virtual_memory", lambda: SimpleNamespace(total=there))
    (tmp_path / "overcommit").write_text(f"{mode}\n")
    monkeypatch.setattr(conversation, "OVERCOMMIT", str(tmp_path / "overcommit"))
    for cell, seen in (("train", False), ("replica-1", True)):  # a replica's word excuses nothing
        (tmp_path / f"{cell}.log").write_text("MemoryError\n")
        error = failure(context(tmp_path, 0.0), cell, "rank 0 ended with exit code 1", seen=seen)
        assert type(error) is (CouldNotCheck if machine and not seen else RuleBroken)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("killed", [0, 1])
def test_a_helper_that_the_kernel_killed_for_memory_is_the_machine_s_fault(
    killed: int, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its rank is not killed: it says that a worker died, or waits for it until the limit."""
    ours = context(tmp_path, 0.0)
    ours.oom_kills = 5
    monkeypatch.setattr(conversation, "killed_for_memory", lambda: 5 + killed)
    (tmp_path / "train.log").write_text("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.\n")
    error = failure(ours, "train", "rank 0 ended with exit code 1", rule="A1-TRAIN-CLOCK", since_ns=late)
    assert type(error) is (CouldNotCheck if killed else RuleBroken)


def test_a_crash_is_not_taken_for_want_of_memory(tmp_path: Path):
    crashed = failure(context(tmp_path, 0.0), "train", "rank 1 was killed by signal 6", signalled=6).remedy
    assert "crashed" in crashed
    assert "memory" not in crashed


def test_a_full_log_and_a_package_that_no_cell_reads_are_named(tmp_path: Path):
    most = load_track("smoke").limits.checkpoint_bytes
    with (tmp_path / "train.log").open("wb") as log:
        log.truncate(most)
    error = failure(context(tmp_path, 0.0), "train", "rank 0 ended with exit code 1 before it was done")
    assert f"its log reached {most:,} bytes" in error.message
    assert error.remedy.startswith("Print less")
    (tmp_path / "final.log").write_text("ModuleNotFoundError: No module named 'scipy.stats'\n")
    assert "If scipy is an installed package" in failure(context(tmp_path, 0.0), "final", "rank 0 ended").remedy


def test_a_busy_machine_is_named_before_anything_is_paid_for(monkeypatch: pytest.MonkeyPatch):
    notes: list[str] = []
    for taken in (0.01, 0.43):
        monkeypatch.setattr(job, "busy_now", lambda taken=taken: taken)
        job.warn_of_neighbours(SimpleNamespace(note=notes.append))
    (note,) = notes
    assert "other processes take 43% of this machine's processors" in note
