"""Runs on one machine share no GPU and no core; a part that is taken is named, and a dead run holds nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli.new import create
from harness.config.tracks import Hardware, load_track
from harness.errors import CouldNotCheck, UsageError
from harness.files import locked
from harness.progress import Reporter
from harness.record.predicate import Conditions
from harness.run import reserve
from harness.run.refereed import Order
from harness.run.reserve import going_on, reserved, run_gpus, share_of_cores
from harness.run.runs import submit_run
from harness.run.verdicts import machine_findings

UUIDS = {f"GPU-{letter * 8}": str(index) for index, letter in enumerate("abcd")}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores and four GPUs, and a cache folder of its own."""
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for module in ("reserve", "machine"):
        monkeypatch.setattr(f"harness.run.{module}.gpu_indices", lambda: UUIDS)


def test_two_runs_of_one_gpu_each_go_side_by_side(monkeypatch: pytest.MonkeyPatch):
    one = Hardware(cpu_cores=16, gpus=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with reserved(one):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
        with reserved(one):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize("name", ["1", "GPU-bbbb", "GPU-bbbbbbbb"])
def test_a_taken_gpu_is_named_however_it_is_called(monkeypatch: pytest.MonkeyPatch, name: str):
    with reserved(Hardware(cpu_cores=1, gpus=4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
        assert "CUDA_VISIBLE_DEVICES" in refuse(Hardware(cpu_cores=1, gpus=1), "GPU 1 is taken")
    with reserved(Hardware(1, 1)):
        pass


def test_a_run_shows_its_own_gpus_only_and_gives_the_setting_back():
    with reserved(Hardware(cpu_cores=1, gpus=2)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_run_without_gpus_touches_no_setting_of_theirs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    with reserved(Hardware(cpu_cores=2, gpus=0)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert run_gpus(Hardware(cpu_cores=2, gpus=0)) == ()


@pytest.mark.rule("A1-HARDWARE")
@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, "shows 4 here"),
        ("", "shows 0 here with CUDA_VISIBLE_DEVICES=''"),
        ("3,1", "shows 2 here with CUDA_VISIBLE_DEVICES='3,1'"),
        ("0,1,2,3,4,5,6,7", "shows 4 here"),
        ("7,0,1,2,3", "shows 0 here"),
    ],
)
def test_a_run_with_too_few_gpus_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible, words: str):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    hardware = load_track("10min_16mb").hardware
    with pytest.raises(CouldNotCheck) as caught, reserved(hardware, "track 10min_16mb"):
        pass
    assert f"track 10min_16mb wants 8 GPUs (H100 80GB HBM3); nvidia-smi {words}" in caught.value.message
    assert "8 GPUs" in caught.value.remedy
    assert not (tmp_path / "reserved").exists()


def test_parts_of_a_gpu_count_as_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-11111111,MIG-22222222")
    with reserved(Hardware(cpu_cores=1, gpus=2)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-11111111,MIG-22222222"


@pytest.mark.rule("A1-HARDWARE")
@pytest.mark.parametrize("track", ["10min_16mb", "non_record_16mb", "one_gpu_120s"])
def test_too_few_gpus_are_found_before_the_run_is_announced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, track):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("KEYS", "RUNS", "RECORDS"):
        monkeypatch.setenv(f"GOLF_{name}_DIR", str(tmp_path / name.lower()))
    with pytest.raises(CouldNotCheck, match=f"track {track} wants"):
        submit_run(Order(create("mine", tmp_path), track, None, {}, tmp_path / "records", Reporter()), 1)
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_cores_are_counted_and_a_run_that_finds_too_few_takes_none():
    with reserved(Hardware(cpu_cores=6, gpus=0)):
        refuse(Hardware(cpu_cores=3, gpus=0), "needs 3 processor cores for itself; 2 of 8 are free")
        with reserved(Hardware(cpu_cores=2, gpus=0)):
            pass


def test_a_run_that_wants_more_cores_than_there_are_takes_them_all():
    with reserved(Hardware(cpu_cores=64, gpus=0)):
        refuse(Hardware(cpu_cores=1, gpus=0), "0 of 8 are free")


@pytest.mark.rule("S7-OWN-MACHINE")
@pytest.mark.parametrize("when", ["before", "beside, still there", "beside, ended"])
def test_another_run_on_the_machine_is_named(when: str):
    """Its evaluation told a training run the validation text, 32,768 tokens in 4 s, by waking futex waiters."""
    one, quiet = Hardware(cpu_cores=2, gpus=0), Conditions(0.0, 0.0, 0, False, [])
    watch = SimpleNamespace(conditions=quiet, seconds=60.0, gpus=[])

    def another() -> None:
        with reserved(one):
            pass

    with reserved(one) if when == "beside, still there" else nullcontext():
        if when == "before":
            another()
        with reserved(one):
            if when == "beside, ended":
                time.sleep(0.02)  # times of files are kept in steps
                another()
            (found,) = machine_findings(load_track("smoke"), watch)
    named = "Another run was on this machine" in found.message
    assert (found.verdict, named) == (("PASS", False) if when == "before" else ("WARN", True))


@pytest.mark.parametrize(
    ("hardware", "cores", "gpus", "share"),
    [
        (Hardware(cpu_cores=16, gpus=1), 128, 8, 16),
        (Hardware(cpu_cores=16, gpus=1), 64, 8, 8),
        (Hardware(cpu_cores=64, gpus=8), 64, 8, 64),
        (Hardware(cpu_cores=16, gpus=1), 4, 8, 1),
        (Hardware(cpu_cores=16, gpus=1), 4, 0, 4),
        (Hardware(cpu_cores=2, gpus=0), 64, 8, 2),
    ],
)
def test_a_gpu_takes_no_more_than_its_part_of_the_cores(hardware: Hardware, cores: int, gpus: int, share: int):
    assert share_of_cores(hardware, cores=cores, gpus=gpus) == share


def test_a_killed_run_leaves_nothing_reserved(tmp_path: Path):
    program = (
        "import os, time; os.sched_getaffinity = lambda _: set(range(8))  # the machine of this file\n"
        "from harness.config.tracks import Hardware; from harness.run.reserve import reserved\n"
        "with reserved(Hardware(8, 0)): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refuse(Hardware(cpu_cores=8, gpus=0), "other runs hold the rest")
        other.send_signal(signal.SIGKILL)
    with reserved(Hardware(8, 0)):
        pass


def test_a_start_that_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reserve, "TURN_S", 0.1)
    with reserved(Hardware(1, 0)):
        (folder,) = (tmp_path / "reserved").iterdir()
    with locked(folder / "turn.lock"):
        refuse(Hardware(cpu_cores=1, gpus=0), r"turn\.lock")


def test_a_run_that_goes_on_is_not_resumed_elsewhere(tmp_path: Path):
    with going_on(tmp_path), pytest.raises(UsageError, match="still goes on"), going_on(tmp_path):
        pass
    with going_on(tmp_path):
        pass


def refuse(hardware: Hardware, words: str) -> str:
    """Check that a run on ``hardware`` is refused with ``words``; returns the remedy."""
    with pytest.raises(CouldNotCheck, match=words) as caught, reserved(hardware):
        pass
    return caught.value.remedy
