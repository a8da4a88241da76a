"""A run that shared its machine or was throttled says so."""

import os
import subprocess
import sys
import time

import pytest

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
        ({"gpu_limits": ["power brake"]}, "power brake"),
    ],
)
def test_each_disturbance_is_named(change: dict, words: str):
    finding = judge_conditions(Conditions(**(ALONE | change)))
    assert finding.verdict is Verdict.WARN
    assert words in finding.message


def test_work_that_is_not_the_runs_own_is_seen(monkeypatch):
    spin = "import time\nend=time.monotonic()+1.5\nwhile time.monotonic()<end: pass"
    monkeypatch.setattr("psutil.Process.children", lambda *_, **__: [])  # as if somebody else had started it
    with subprocess.Popen([sys.executable, "-c", spin]), MachineWatch(gpus=()) as foreign:
        time.sleep(1.3)
    assert foreign.conditions is not None
    assert foreign.conditions.foreign_cpu_share * (os.cpu_count() or 1) > 0.2  # of one processor
