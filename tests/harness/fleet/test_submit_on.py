"""Seeds as jobs of a queue: every seed runs once with the variables of its command, and the report is one."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from record_samples import make_artifact, make_record
from tiny_run import tiny_dataset

from harness.cli.main import main
from harness.cli.new import create
from harness.data.dataset import Manifest, write_manifest
from harness.errors import CouldNotCheck, UsageError
from harness.run.runs import RunOutcome

RUNNER = """#!/bin/sh
echo "$@" >> {log}
for word; do case "$before" in --seeds) seed=$word;; esac; before=$word; done
cat {folder}/$seed.json
"""


def manifest_of(digest: str) -> Manifest:
    like = tiny_dataset(Path())
    fields = {name: getattr(like, name) for name in Manifest.__struct_fields__}
    return Manifest(**fields | {"files": {"tiny_train_000000.bin": digest}})


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Call submit with a stand-in for the command that each job runs; returns (result, command lines that ran)."""
    create("mine", tmp_path)
    for seed in (1, 2, 3):
        record = make_record(make_artifact(tmp_path / "sample", 0), seed)
        (tmp_path / f"{seed}.json").write_bytes(msgspec.json.encode(record))
    tools, log = tmp_path / "tools", tmp_path / "ran"
    tools.mkdir()
    (tools / "env").write_text(RUNNER.format(log=log, folder=tmp_path))
    (tools / "env").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*options: str):
        arguments = ["submit", "--submission", "mine", "--on", "local", "--queue", str(tmp_path / "queue"), *options]
        result = CliRunner().invoke(main, arguments, standalone_mode=False)
        return result, log.read_text().splitlines() if log.exists() else []

    call.folder = tmp_path
    return call


def test_a_seed_that_has_its_record_is_a_result_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = make_record(make_artifact(tmp_path / "sample", 0), 5)
    monkeypatch.setattr("harness.run.runs.submit_seeds", lambda *_, **__: [(RunOutcome(record, None, tmp_path), False)])
    done = CliRunner().invoke(main, ["submit", "--seeds", "5", "--json"], standalone_mode=False)
    assert done.return_value == 0
    assert json.loads(done.stdout)["submission"]["seed"] == 5


def test_each_seed_is_a_job_that_runs_once_and_the_statistics_are_one(fleet):
    warned = json.loads((fleet.folder / "3.json").read_text())
    warned["findings"] = [{"rule": "S7-OWN-MACHINE", "verdict": "WARN", "message": "shared."}]
    (fleet.folder / "3.json").write_text(json.dumps(warned))
    result, ran = fleet("--seeds", "1 2 3", "--json")
    assert result.return_value == 0, result.output
    document = json.loads(result.stdout)
    assert [job["verdict"] for job in document["jobs"]] == ["PASS", "PASS", "WARN"]
    assert document["seeds"] == [1, 2, 3]
    assert document["statistics"][0]["seeds"] == [1, 2, 3]
    assert len(ran) == 3
    result, ran = fleet("--seeds", "1 2 3")
    (row,) = (line for line in result.output.splitlines() if "  submit smoke seed 2 on " in line)
    final = next(s["bpb"] for s in json.loads((fleet.folder / "2.json").read_text())["scores"] if s["stage"] == "final")
    assert f" {final:.4f} " in row
    assert " +0.000000 " in row  # its difference to the mean of the three, which are alike here
    assert "sample std" in result.output or "standard deviation" in result.output
    assert len(ran) == 3


def test_a_job_takes_the_variables_along_but_no_passphrase(fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BIGRAM_WEIGHT", "0.25")
    monkeypatch.setenv("GOLF_KEY_PASSPHRASE", "whisper")
    result, (line,) = fleet("--seed", "1")
    assert result.return_value == 0, result.output
    assert "BIGRAM_WEIGHT=0.25" in line
    assert f"GOLF_CACHE_DIR={tmp_path / 'cache'}" in line
    assert line.startswith("-u SEED ")
    assert "--seeds 1 " in line
    assert not [path for path in (tmp_path / "queue").rglob("*") if path.is_file() and b"whisper" in path.read_bytes()]


def test_changed_code_data_or_track_is_another_job_and_the_job_keeps_its_code(fleet, tmp_path: Path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    write_manifest(data, manifest_of("1" * 64))
    counts = []

    def run() -> Path:
        result, ran = fleet("--seed", "1", "--data", str(data))
        assert result.return_value == 0, result.output
        counts.append(len(ran))
        return Path(ran[-1].split("--submission ")[1].split()[0])

    first, source = run(), tmp_path / "mine" / "train_entry.py"
    assert run() == first
    before = source.read_bytes()
    source.write_bytes(before + b"# changed\n")
    second = run()
    assert (first / "train_entry.py").read_bytes() == before
    assert (second / "train_entry.py").read_bytes() == source.read_bytes() != before
    write_manifest(data, manifest_of("2" * 64))
    assert run() == second
    monkeypatch.setattr("harness.run.machine.referee_digest", lambda: "9" * 64)
    run()
    assert counts == [1, 1, 2, 3, 4]


def test_code_in_the_queue_that_was_changed_is_not_run(fleet, tmp_path: Path):
    _, (line,) = fleet("--seed", "1")
    (Path(line.split("--submission ")[1].split()[0]) / "train_entry.py").unlink()
    result, ran = fleet("--seed", "2")
    assert isinstance(result.exception, CouldNotCheck)
    assert "does not hold the code" in str(result.exception)
    assert len(ran) == 1


def test_resume_and_again_are_for_one_machine(fleet):
    result, _ = fleet("--seeds", "1 2", "--again")
    assert isinstance(result.exception, UsageError)
    assert "--on goes with neither" in str(result.exception)
