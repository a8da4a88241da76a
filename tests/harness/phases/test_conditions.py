"""A run that shared its machine or was throttled says so."""

import os
import subprocess
import sys

import psutil
import pytest
from cells import wait_for

from harness.phases import conditions
from harness.phases.conditions import MachineWatch, judge_conditions
from harness.record.predicate import Conditions
from harness.rules import Verdict

ALONE = {
    "foreign_cpu_share": 0.0,
    "stolen_cpu_share": 0.0,
    "cpu_throttle_events": 0,
    "gpu_shared": False,
    "gpu_limits": [],
}


def test_a_run_alone_passes():
    assert judge_conditions(Conditions(**ALONE)).verdict is Verdict.PASS


@pytest.mark.rule("S7-OWN-MACHINE")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"foreign_cpu_share": 0.4}, "other processes took 40.0%"),
        ({"stolen_cpu_share": 0.1}, "hypervisor"),
        ({"cpu_throttle_events": 3}, "throttled 3 times"),
        ({"gpu_shared": True}, "on the GPUs"),
        ({"quota_throttled_s": 12.0}, "a quota of its control group held it back for 12.0 s"),
        ({"gpu_limits": ["power brake"]}, "power brake"),
    ],
)
def test_each_disturbance_is_named(change: dict, words: str):
    finding = judge_conditions(Conditions(**(ALONE | change)), seconds=100.0)
    assert finding.verdict is Verdict.WARN
    assert words in finding.message


def test_work_that_is_not_the_runs_own_is_seen(monkeypatch):
    monkeypatch.setattr("psutil.Process.children", lambda *_, **__: [])  # as if somebody else had started it
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning, MachineWatch(gpus=()) as foreign:
        wait_for(lambda: sum(psutil.Process(spinning.pid).cpu_times()[:2]) > 0.5)
        spinning.kill()
    assert foreign.conditions is not None
    assert foreign.conditions.foreign_cpu_share * foreign.seconds * (os.cpu_count() or 1) > 0.3


@pytest.mark.parametrize(
    ("line", "group", "text"),
    [
        ("0::/pod/run", "pod", "nr_throttled 7\nthrottled_usec 2500000\n"),  # a quota above the run's own group
        ("0::/", "", "throttled_usec 2500000\n"),  # inside a container
        ("4:cpu,cpuacct:/job", "cpu,cpuacct/job", "throttled_time 2500000000\n"),  # version 1
    ],
)
def test_a_quota_is_read_where_the_kernel_counts_it(tmp_path, monkeypatch, line: str, group: str, text: str):
    (tmp_path / group).mkdir(parents=True, exist_ok=True)
    (tmp_path / group / "cpu.stat").write_text(text)
    (tmp_path / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    monkeypatch.setattr(conditions, "_CGROUPS", tmp_path)
    monkeypatch.setattr(conditions, "_OWN_GROUPS", tmp_path / "cgroup")
    assert conditions.quota_throttled_s() == 2.5


def test_gpus_that_a_cell_could_open_beside_its_own_are_told():
    assert "could open 8 GPUs" in judge_conditions(Conditions(**ALONE, open_gpus=8)).message
