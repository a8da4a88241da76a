"""The run's machine: what it is, for the record, and whether the run had it to itself, at full speed [S7-OWN-MACHINE].

Nothing here identifies the machine's owner. Covered: processor time of other processes, time stolen by a hypervisor,
quotas of control groups, thermal throttling of processors and GPUs, other processes on the run's GPUs. Not covered:
memory bandwidth, disks, and power caps that were set before the run.
"""

import contextlib
import hashlib
import itertools
import math
import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.errors import CouldNotCheck
from harness.files import file_digest, told
from harness.git import git
from harness.record.canonical import canonical_digest
from harness.record.predicate import Conditions, Machine, Provenance
from harness.rules import Finding, Verdict, rule
from harness.sandbox.policy import control_groups

PACKAGES = ("torch", "numpy", "sentencepiece", "triton", "mamba-ssm", "flash-attn", "cryptography", "msgspec")
RULE = "S7-OWN-MACHINE"
SAMPLE_INTERVAL_S = 1.0
LOOK_S = 1.0
PAUSE_S = 2.0  # a wait that takes so much too long is more than a busy machine
GPU_EVERY = 10
_SPEED_LIMITS = (
    ("clocks_event_reasons.hw_thermal_slowdown", "thermal slowdown (hardware)"),
    ("clocks_event_reasons.sw_thermal_slowdown", "thermal slowdown (driver)"),
    ("clocks_event_reasons.hw_power_brake_slowdown", "power brake"),
)
_ROOT = Path(__file__).resolve().parents[1]  # of the referee's own files
_KERNEL = 2 if told("/proc/2/comm") == "kthreadd\n" else 0  # the parent of the kernel's threads; a container hides it


def describe_machine() -> Machine:
    """System, processor, memory, GPUs and the packages that matter."""
    cpus = re.findall(r"^model name\s*:\s*(.+?)\s*$", told("/proc/cpuinfo"), re.MULTILINE)
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        cpu=cpus[0] if cpus else platform.processor() or platform.machine(),
        cpu_cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=nvidia_smi("--query-gpu=name,memory.total"),
        python=platform.python_version(),
        packages=versions,
    )


def referee_digest() -> str:
    """SHA-256 over the names and digests of the referee's own files."""
    files = (path for path in _ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return canonical_digest({path.relative_to(_ROOT).as_posix(): file_digest(path) for path in files})


def describe_provenance(referee: str) -> Provenance:
    """The referee by digest and commit, every package by its list of files, C library, driver, CUDA, image.

    referee: digest of its files when the run began; none can be named where they changed meanwhile
    """
    commit = ""
    with contextlib.suppress(CouldNotCheck, ValueError):  # do these files differ from a repository that holds them?
        place, head = os.fsdecode(git(_ROOT, "rev-parse", "--show-toplevel", "HEAD")).splitlines()
        if place == str(_ROOT.parent):  # else a stranger's, maybe, and status runs its filters
            git(_ROOT, "ls-files", "--error-unmatch", "__init__.py")
            commit = head + "+changes" * bool(git(_ROOT, "status", "--porcelain", "--", "."))
    try:
        from torch.version import cuda
    except ImportError:
        cuda = None
    # Podman and Buildah tell a container the id of its image; other engines tell none.
    image = re.search(r'^imageid="([0-9a-f]{64})"$', told("/run/.containerenv"), re.MULTILINE)
    found = [package for package in metadata.distributions() if package.name]
    lists = {f"{package.name.lower()}=={package.version}": package.read_text("RECORD") for package in found}
    packages = {name: hashlib.sha256(text.encode()).hexdigest() if text else "" for name, text in lists.items()}
    return Provenance(
        referee=referee if referee == referee_digest() else "",
        commit=commit,
        libc=" ".join(platform.libc_ver()).strip(),
        driver=next(iter(nvidia_smi("--query-gpu=driver_version")), ""),
        cuda=cuda or "",
        image=image[1] if image else "",
        packages=dict(sorted(packages.items())),
    )


def gpu_indices() -> dict[str, str]:
    """UUID -> index of every GPU of the machine, as nvidia-smi numbers them; empty without a driver."""
    rows = (line.split(",") for line in nvidia_smi("--query-gpu=index,uuid"))
    return {uuid.strip(): index.strip() for index, uuid in rows}


def usable_gpus() -> tuple[str, ...]:
    """Indices of this machine's GPUs, or of those that CUDA_VISIBLE_DEVICES leaves; parts of a GPU (MIG) count.

    CUDA takes indices and beginnings of UUIDs, and shows no GPU behind the first that is not there.
    """
    visible, machine = os.environ.get("CUDA_VISIBLE_DEVICES"), gpu_indices()
    if visible is None:
        return tuple(machine.values())
    found = []
    for name in filter(None, map(str.strip, visible.split(","))):
        fits = [index for uuid, index in machine.items() if name.startswith("GPU-") and uuid.startswith(name)]
        if not fits and name not in machine.values() and not name.startswith("MIG-"):
            break
        found.append(fits[0] if fits else name)
    return tuple(found)


def gpu_names(gpus: Sequence[str]) -> list[str]:
    """The names of ``gpus`` (indices or UUIDs) as far as nvidia-smi tells them."""
    return nvidia_smi("--query-gpu=name", "-i", ",".join(gpus)) if gpus else []


def nvidia_smi(query: str, *options: str) -> list[str]:
    """The lines that nvidia-smi answers to ``query``; none where it is missing or does not answer.

    Asked of nvidia-smi, so that the referee makes no CUDA context for it.
    """
    command = ["nvidia-smi", *options, query, "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


class _Look(NamedTuple):
    """Seconds so far: of all processors, by the hypervisor, of the run, of others that are seen; held by a quota."""

    at: float
    busy: float
    stolen: float
    own: float
    others: float
    held: float


class MachineWatch:
    """Watches the machine for the duration of a ``with`` block; ``conditions`` holds the result afterwards.

    gpus: the GPUs of the run, by index or UUID; as an attribute by name
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = ["-i", ",".join(gpus)] if gpus else []
        self.gpus = gpu_names(gpus)
        self._count = len(gpus)
        self._stop = threading.Event()
        self._limits: set[str] = set()
        self._looks: list[_Look] = []
        self._alone: dict[tuple[int, float], float] = {}
        self._with_children = 0.0
        self._pauses: list[tuple[float, float]] = []  # end and length of each
        self._waits_since = math.inf
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.conditions: Conditions | None = None

    def __enter__(self) -> "MachineWatch":
        self._gpu_shared = bool(self._gpus) and bool(nvidia_smi("--query-compute-apps=pid", *self._gpus))
        self._started = time.monotonic()
        self._throttled_before = _throttle_events()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        nodes = len(list(Path("/dev").glob("nvidia[0-9]*")))
        self.seconds = seconds = time.monotonic() - self._started
        self._look()
        first, last = self._looks[0], self._looks[-1]
        self.conditions = Conditions(
            foreign_cpu_share=round(_share(last.busy - first.busy - (last.own - first.own), seconds), 4),
            stolen_cpu_share=round(_share(last.stolen - first.stolen, seconds), 4),
            cpu_throttle_events=max(0, _throttle_events() - self._throttled_before),
            gpu_shared=self._gpu_shared,
            gpu_limits=sorted(self._limits),
            quota_throttled_s=round(max(0.0, last.held - first.held), 3),
            open_gpus=nodes if 0 < self._count < nodes else 0,
        )

    def others_took(self, seconds: float, *, seen: bool = False) -> float:
        """The share of the processors that other processes, the hypervisor or a quota had over the last ``seconds``.

        It is what the run did not use, so it holds also for processes that a container does not show. But a program can
        hide time of its own there: a child that nobody waits for takes its time along. seen: only what processes
        outside the run were seen to use, without the kernel's threads, which also write and free what the run did, and
        without a quota, which the run can use up itself.
        """
        time.sleep(max(0.0, self._looks[0].at + LOOK_S - time.monotonic()))  # over less it says nothing
        with self._looking:
            self._look()
        now = self._looks[-1]
        then = next((look for look in reversed(self._looks) if look.at <= now.at - seconds), self._looks[0])
        others = now.others - then.others if seen else now.busy - then.busy - (now.own - then.own)
        share = _share(others + now.stolen - then.stolen, now.at - then.at)
        return share if seen else max(share, min(1.0, (now.held - then.held) / max(1e-3, now.at - then.at)))

    def paused_s(self, seconds: float) -> float:
        """For how long of the last ``seconds`` this process was stopped (Ctrl-Z), or frozen with its container."""
        self._note_pause()
        since = time.monotonic() - seconds
        return sum(late for at, late in self._pauses if at >= since)

    def _note_pause(self) -> None:
        with self._looking:
            now = time.monotonic()
            if (late := now - self._waits_since - SAMPLE_INTERVAL_S) > PAUSE_S:
                self._pauses.append((now, late))
            self._waits_since = math.inf

    def _look(self) -> None:
        """Note how much time everybody has used by now.

        What the run used since the last look is counted in two ways, and the larger counts. By process it lacks
        children that came and went meanwhile; with the children that each process waited for it lacks those that were
        killed with their cell, whose time the kernel forgets.
        """
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        alone, with_children, others = dict[tuple[int, float], float](), 0.0, 0.0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                used = process.cpu_times()
                total = used.user + used.system + used.children_user + used.children_system
                if process.pid in ours:
                    alone[process.pid, process.create_time()] = used.user + used.system
                    with_children += total
                elif process.ppid() != _KERNEL:
                    others += total
        own = 0.0
        if self._looks:
            grown = sum(max(0.0, seconds - self._alone.get(process, 0.0)) for process, seconds in alone.items())
            own = self._looks[-1].own + max(grown, with_children - self._with_children)
        self._alone, self._with_children = alone, with_children
        self._looks.append(_Look(time.monotonic(), *_processor_seconds(), own, others, quota_throttled_s()))

    def _watch(self) -> None:
        names = ",".join(name for name, _ in _SPEED_LIMITS)
        for count in itertools.count():
            with self._looking:
                self._look()
            asks = self._gpus and count % GPU_EVERY == 0
            for line in nvidia_smi(f"--query-gpu={names}", *self._gpus) if asks else ():
                states = zip(_SPEED_LIMITS, line.split(","), strict=False)
                self._limits |= {words for (_, words), state in states if state.strip() == "Active"}
            self._waits_since = time.monotonic()
            if self._stop.wait(SAMPLE_INTERVAL_S):
                return
            self._note_pause()


def _share(processor_s: float, seconds: float) -> float:
    """Of all processors over ``seconds``, 0 to 1."""
    return min(1.0, max(0.0, processor_s / (seconds * (os.cpu_count() or 1)))) if seconds > 0 else 0.0


def busy_now() -> float:
    """The share of the processors that is in use while this process waits for ``LOOK_S``: that is other processes."""
    before = sum(_processor_seconds())
    time.sleep(LOOK_S)
    return _share(sum(_processor_seconds()) - before, LOOK_S)


def judge_conditions(conditions: Conditions, seconds: float = math.inf) -> Finding:
    """PASS, or WARN that names each thing that may have slowed the run of ``seconds`` [S7-OWN-MACHINE]."""
    opened = f" Its cells could open {conditions.open_gpus} GPUs of the machine." if conditions.open_gpus else ""
    if not (reasons := conditions.slowed(seconds)):
        own = f"{1 - conditions.foreign_cpu_share:.1%} of the machine was the run's own.{opened}"
        return Finding(RULE, Verdict.PASS, own)
    return Finding(RULE, Verdict.WARN, f"{'; '.join(reasons)}.{opened}", remedy=rule(RULE).remedy)


def quota_throttled_s() -> float:
    """Seconds for which the control groups of this process, or one above, were throttled; 0 where nobody says."""
    longest = 0.0
    for folder in control_groups("cpu"):  # version 2 counts microseconds, version 1 nanoseconds
        found = dict(re.findall(r"^throttled_(usec|time) (\d+)$", told(folder / "cpu.stat"), re.MULTILINE))
        longest = max(longest, int(found.get("usec", 0)) / 1e6 + int(found.get("time", 0)) / 1e9)
    return longest


def _processor_seconds() -> tuple[float, float]:
    """(busy, stolen) seconds of all processors since boot."""
    used = psutil.cpu_times()
    return used.user + used.nice + used.system + used.irq + used.softirq, used.steal


def _throttle_events() -> int:
    counts = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    return sum(int(told(path) or 0) for path in counts)


def killed_for_memory() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    return int((re.findall(r"^oom_kill (\d+)$", told("/proc/vmstat"), re.MULTILINE) or [0])[0])
