"""A run that shared its machine, was throttled, or ran on other GPUs than its track's says so."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from cells import wait_for
from process_lab import BASE, zoo_track

from harness.config.tracks import load_track
from harness.progress import Reporter
from harness.record.predicate import Conditions
from harness.rules import Verdict
from harness.run import cells, machine
from harness.run.artifact import seal_submission
from harness.run.machine import MachineWatch, gpu_names, judge_conditions
from harness.run.verdicts import hardware_findings
from harness.sandbox import policy

ALONE = {"foreign_cpu_share": 0.0, "stolen_cpu_share": 0.0, "cpu_throttle_events": 0}
ALONE |= {"gpu_shared": False, "gpu_limits": []}


@pytest.mark.parametrize(("open_gpus", "told"), [(0, False), (8, True)])
def test_a_run_alone_passes_and_tells_of_gpus_that_a_cell_could_open_beside_its_own(open_gpus: int, told: bool):
    finding = judge_conditions(Conditions(**ALONE, open_gpus=open_gpus))
    assert (finding.verdict, "could open 8 GPUs" in finding.message) == (Verdict.PASS, told)


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


def process(pid: int, own_s: float, of_children_s: float = 0.0, parent: int = 1) -> SimpleNamespace:
    used = SimpleNamespace(user=own_s, system=0.0, children_user=of_children_s, children_system=0.0)
    return SimpleNamespace(pid=pid, cpu_times=lambda: used, create_time=lambda: 1.0, ppid=lambda: parent)


RANK, CHILD, NEIGHBOUR = 1 << 30, 1 << 31, 1 << 32


@pytest.mark.rule("S7-OWN-MACHINE")
@pytest.mark.parametrize(
    ("halfway", "end", "others", "seen"),
    [
        ([process(RANK, 4.0)], [process(RANK, 8.0)], 0.0, 0.0),
        ([process(RANK, 2.0), process(NEIGHBOUR, 3.0)], [process(RANK, 2.0), process(NEIGHBOUR, 6.0)], 0.3, 0.3),
        ([process(RANK, 1.0, 3.0)], [process(RANK, 1.0, 7.0)], 0.0, 0.0),  # children came and went between two looks
        # one was seen, then waited for
        ([process(RANK, 1.0), process(CHILD, 3.0)], [process(RANK, 1.0, 7.0)], 0.0, 0.0),
        ([process(RANK, 8.0)], [], 0.0, 0.0),  # the cell was killed: the kernel forgets its time
        ([process(RANK, 1.0)], [process(RANK, 1.0)], 0.35, 0.0),  # nobody waited, or a container hides the neighbour
        # it writes what the run wrote, perhaps: no excuse for a replica
        (
            [process(RANK, 2.0), process(NEIGHBOUR, 3.0, parent=2)],
            [process(RANK, 2.0), process(NEIGHBOUR, 6.0, parent=2)],
            0.3,
            0.0,
        ),
    ],
    ids=["alone", "a neighbour", "forks", "a child", "killed", "unseen", "the kernel"],
)
def test_what_others_took_is_told_from_what_the_run_and_its_forks_took(monkeypatch, halfway, end, others, seen):
    watch = MachineWatch(())
    monkeypatch.setattr(machine, "_KERNEL", 2)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    ours = [SimpleNamespace(pid=RANK), SimpleNamespace(pid=CHILD)]
    monkeypatch.setattr(machine.psutil.Process, "children", lambda *_, **__: ours)
    half_busy = sum(found.cpu_times().user + found.cpu_times().children_user for found in halfway)
    for at, busy, found in ((0.0, 0.0, []), (5.0, half_busy, halfway), (10.0, 8.0, end), (10.0, 8.0, end)):
        monkeypatch.setattr(machine.psutil, "process_iter", lambda found=found: found)
        monkeypatch.setattr(machine, "_processor_seconds", lambda busy=busy: (busy, 0.0))
        monkeypatch.setattr(machine.time, "monotonic", lambda at=at: at)
        watch._look()
    assert watch.really_took(10.0) == pytest.approx(others)
    assert watch.really_took(10.0, seen=True) == pytest.approx(seen)


def test_what_a_quota_held_back_counts_but_excuses_no_replica(monkeypatch):
    watch = MachineWatch(())
    monkeypatch.setattr(machine.psutil, "process_iter", lambda: [])
    monkeypatch.setattr(machine, "_processor_seconds", lambda: (0.0, 0.0))
    for at in (0.0, 10.0, 10.0):
        monkeypatch.setattr(machine, "quota_throttled_s", lambda at=at: 0.3 * at)
        monkeypatch.setattr(machine.time, "monotonic", lambda at=at: at)
        watch._look()
    assert (watch.really_took(10.0), watch.really_took(10.0, seen=True)) == pytest.approx((0.3, 0.0), abs=0.01)


@pytest.mark.parametrize(("now", "seconds", "paused_s"), [(10.0, 60.0, 6.0), (5.5, 60.0, 0.0), (10.0, 5.0, 6.0)])
def test_a_pause_of_the_referee_is_seen_once_and_in_its_time(monkeypatch, now: float, seconds: float, paused_s: float):
    """It waits a second from 3 on, and is stopped, or only late on a busy machine."""
    watch = MachineWatch(())
    monkeypatch.setattr(machine.time, "monotonic", lambda: now)
    watch._waits_since = 3.0
    assert watch.paused_s(seconds) == watch.paused_s(seconds) == paused_s
    monkeypatch.setattr(machine.time, "monotonic", lambda: 100.0)
    assert watch.paused_s(60.0) == 0.0


def test_over_less_than_a_second_nothing_is_told_of_others(monkeypatch):
    watch, now = MachineWatch(()), [100.0]
    monkeypatch.setattr(machine, "LOOK_S", 1.0)
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    watch._look()
    now[0] = 100.2
    watch.really_took(60.0)
    assert watch._looks[-1].at == pytest.approx(101.0)


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
    monkeypatch.setattr(policy, "GROUPS", tmp_path)
    monkeypatch.setattr(policy, "OWN_GROUPS", tmp_path / "cgroup")
    assert machine.quota_throttled_s() == 2.5


@pytest.mark.parametrize("changed", [False, True])
def test_a_referee_that_was_updated_during_the_run_is_not_named_as_what_ran_it(monkeypatch, changed: bool):
    monkeypatch.setattr(machine.metadata, "distributions", lambda: [])
    began = "0" * 64 if changed else machine.referee_digest()
    assert machine.describe_provenance(began).referee == ("" if changed else began)


def test_a_repository_around_the_environment_is_neither_run_nor_named(tmp_path: Path, monkeypatch):
    """An unpacked folder brings its own .git: hooks, filters, and an index that may list what the user installs."""
    monkeypatch.setattr(machine.metadata, "distributions", lambda: [])

    def git(*words: object) -> str:
        command = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    around, own = tmp_path / ".venv" / "harness" / "__init__.py", tmp_path / "harness" / "__init__.py"
    for package in (around, own):
        package.parent.mkdir(parents=True)
        package.touch()
    git("init", "-q")
    git("add", around, own)
    git("commit", "-q", "-m", "x")
    git("config", "filter.x.clean", f"touch {tmp_path}/ran; cat")
    (tmp_path / ".git" / "info" / "attributes").write_text("* filter=x\n")
    os.utime(around, (1, 1))
    os.utime(own, (1, 1))
    monkeypatch.setattr(machine, "_ROOT", around.parent)
    assert machine.describe_provenance("").commit == ""
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(machine, "_ROOT", own.parent)
    assert machine.describe_provenance("").commit == git("rev-parse", "HEAD")
    assert (tmp_path / "ran").exists()  # so the filter would have run above


def test_cells_of_the_final_stage_are_alike_whatever_the_load(tmp_path, monkeypatch):
    """Else a replica could tell itself from the cell that counts; a cell of another stage follows the load."""
    shares, threads = iter((0.0, 0.0, 0.5, 0.5)), iter((100, 200, 300, 400))
    monkeypatch.setattr(cells, "threads_of_user", lambda: next(threads))
    brought = []
    monkeypatch.setattr(cells, "make_resident", lambda parts, paths: brought.append(paths))
    monkeypatch.setattr(cells, "turn_out", lambda *_: None)
    context = cells.RunContext(zoo_track({}), 1, tmp_path, seal_submission(BASE, tmp_path), {}, Reporter())
    context.machine = SimpleNamespace(others_took=lambda *_: next(shares))
    code = "import os, resource; print(os.environ['GOMP_SPINCOUNT'], resource.getrlimit(resource.RLIMIT_NPROC)[0])"
    argv, most, seen = (sys.executable, "-I", "-S", "-c", code), context.track.limits.processes, {}
    for name in ("packed", "final", "replica-1", "packed later"):
        extra = {"GOLF_STAGE": "packed" if "packed" in name else "final"}
        with cells.phase_cell(context, "eval", name=name, limit_s=60.0, argv=argv, extra=extra) as cell:
            wait_for(lambda cell=cell: None not in cell.exit_codes())
        assert "packed" in name or brought.pop() == cell.spec.policy.read  # of the referee itself too: its protocol
        spins, limit = context.log_file(name).read_text().split()
        seen[name] = spins, int(limit) - most
    assert seen == {
        "packed": ("20000", 100),
        "final": ("20000", 200),
        "replica-1": ("20000", 200),
        "packed later": ("1000", 400),
    }


SXM, PCIE, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H200"
OFFICIAL = load_track("10min_16mb")


def test_the_track_s_gpus_pass():
    (found,) = hardware_findings(OFFICIAL.hardware, [SXM] * 8)
    assert (found.rule, found.verdict, found.message) == ("A1-HARDWARE", Verdict.PASS, f"8× {SXM}.")


@pytest.mark.rule("A1-HARDWARE")
@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ([H200] * 8, "8× NVIDIA H200"),
        ([PCIE] * 8, "8× NVIDIA H100 PCIe"),
        ([SXM] * 7 + [H200], f"7× {SXM}, 1× NVIDIA H200"),
        ([SXM] * 7, f"7× {SXM}"),
        ([], "no GPU that nvidia-smi names"),
    ],
)
def test_other_gpus_are_a_warning_that_names_them(gpus: list[str], words: str):
    (found,) = hardware_findings(OFFICIAL.hardware, gpus)
    assert (found.rule, found.verdict, found.found) == ("A1-HARDWARE", Verdict.WARN, words)
    assert found.wanted == "8× H100 80GB HBM3"
    assert found.remedy


@pytest.mark.parametrize("name", ["smoke", "one_gpu_120s", "non_record_16mb"])
def test_a_track_that_names_no_model_says_nothing(name: str):
    assert hardware_findings(load_track(name).hardware, [H200]) == []


def test_the_run_s_own_gpus_are_named_and_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.run.machine.nvidia_smi", lambda *words: [" ".join(words)])
    assert gpu_names(("2", "3")) == ["--query-gpu=name -i 2,3"]
    assert gpu_names(()) == []
