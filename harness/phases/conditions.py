"""Did the run have its machine to itself, at full speed? [S7-OWN-MACHINE]

Covered: processor time of other processes, time stolen by a hypervisor, quotas of control groups, thermal throttling of
processors and GPUs, other processes on the run's GPUs. Not covered: memory bandwidth, disks, and power caps that were
set before the run.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

from harness.phases.machine import nvidia_smi
from harness.record.predicate import Conditions
from harness.rules import Finding, Verdict, rule

RULE = "S7-OWN-MACHINE"
FOREIGN_SHARE = 0.05
STOLEN_SHARE = 0.02
THROTTLED_SHARE = 0.01  # of the run's time
_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SAMPLE_INTERVAL_S = 1.0
LOOK_S = 1.0
GPU_EVERY = 10
_SPEED_LIMITS = (
    ("clocks_event_reasons.hw_thermal_slowdown", "thermal slowdown (hardware)"),
    ("clocks_event_reasons.sw_thermal_slowdown", "thermal slowdown (driver)"),
    ("clocks_event_reasons.hw_power_brake_slowdown", "power brake"),
)


class _Look(NamedTuple):
    """Processor seconds so far: of all processors, taken by the hypervisor, of the run, of others that are seen."""

    at: float
    busy: float
    stolen: float
    own: float
    others: float


class MachineWatch:
    """Watches the machine for the duration of a ``with`` block; ``conditions`` holds the result afterwards.

    gpus: the GPUs of the run, by index or UUID
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = ["-i", ",".join(gpus)] if gpus else []
        self._count = len(gpus)
        self._stop = threading.Event()
        self._limits: set[str] = set()
        self._looks: list[_Look] = []
        self._alone: dict[tuple[int, float], float] = {}
        self._with_children = 0.0
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.conditions: Conditions | None = None

    def __enter__(self) -> MachineWatch:
        self._gpu_shared = bool(self._gpus) and bool(nvidia_smi("--query-compute-apps=pid", *self._gpus))
        self._started = time.monotonic()
        self._before = (_throttle_events(), quota_throttled_s())
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        throttled_before, quota_before = self._before
        seconds = time.monotonic() - self._started
        self._look()
        first, last = self._looks[0], self._looks[-1]
        self.conditions = Conditions(
            foreign_cpu_share=round(_share(last.busy - first.busy - (last.own - first.own), seconds), 4),
            stolen_cpu_share=round(_share(last.stolen - first.stolen, seconds), 4),
            cpu_throttle_events=max(0, _throttle_events() - throttled_before),
            gpu_shared=self._gpu_shared,
            gpu_limits=sorted(self._limits),
            quota_throttled_s=round(max(0.0, quota_throttled_s() - quota_before), 3),
            open_gpus=_open_gpus(self._count),
        )
        self.seconds = seconds

    def others_took(self, seconds: float, *, seen: bool = False) -> float:
        """The share of the processors that other processes, and the hypervisor, had over the last ``seconds``.

        It is what the run did not use, so it holds also for processes that a container does not show. But a program can
        hide time of its own there: a child that nobody waits for takes its time along. seen: only what processes
        outside the run were seen to use, which no program of the run can add to.
        """
        with self._looking:
            self._look()
        now = self._looks[-1]
        then = next((look for look in reversed(self._looks) if look.at <= now.at - seconds), self._looks[0])
        others = now.others - then.others if seen else now.busy - then.busy - (now.own - then.own)
        return _share(others + now.stolen - then.stolen, now.at - then.at)

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
                else:
                    others += total
        own = 0.0
        if self._looks:
            grown = sum(max(0.0, seconds - self._alone.get(process, 0.0)) for process, seconds in alone.items())
            own = self._looks[-1].own + max(grown, with_children - self._with_children)
        self._alone, self._with_children = alone, with_children
        self._looks.append(_Look(time.monotonic(), *_processor_seconds(), own, others))

    def _watch(self) -> None:
        for count in itertools.count():
            with self._looking:
                self._look()
            if self._gpus and count % GPU_EVERY == 0:
                self._sample_gpus()
            if self._stop.wait(SAMPLE_INTERVAL_S):
                return

    def _sample_gpus(self) -> None:
        names = ",".join(name for name, _ in _SPEED_LIMITS)
        for line in nvidia_smi(f"--query-gpu={names}", *self._gpus):
            for (_, words), state in zip(_SPEED_LIMITS, line.split(","), strict=False):
                if state.strip() == "Active":
                    self._limits.add(words)


def _share(processor_s: float, seconds: float) -> float:
    """Of all processors over ``seconds``, 0 to 1."""
    return min(1.0, max(0.0, processor_s / (seconds * (os.cpu_count() or 1)))) if seconds > 0 else 0.0


def busy_now() -> float:
    """The share of the processors that is in use while this process waits for ``LOOK_S``: that is other processes."""
    before = sum(_processor_seconds())
    time.sleep(LOOK_S)
    return _share(sum(_processor_seconds()) - before, LOOK_S)


def judge_conditions(conditions: Conditions, seconds: float = math.inf) -> Finding:
    """PASS, or WARN that names each thing that may have slowed the run, which took ``seconds``."""
    reasons = []
    if conditions.foreign_cpu_share > FOREIGN_SHARE:
        reasons.append(f"other processes took {conditions.foreign_cpu_share:.1%} of the processors")
    if conditions.stolen_cpu_share > STOLEN_SHARE:
        reasons.append(f"the hypervisor took {conditions.stolen_cpu_share:.1%} of the processors")
    if conditions.quota_throttled_s > THROTTLED_SHARE * seconds:
        reasons.append(f"a quota of its control group held it back for {conditions.quota_throttled_s:.1f} s")
    if conditions.cpu_throttle_events:
        reasons.append(f"the processors were throttled {conditions.cpu_throttle_events} times")
    if conditions.gpu_shared:
        reasons.append("other processes were on the GPUs")
    reasons += [f"GPU: {limit}" for limit in conditions.gpu_limits]
    opened = f" Its cells could open {conditions.open_gpus} GPUs of the machine." if conditions.open_gpus else ""
    if not reasons:
        own = f"{1 - conditions.foreign_cpu_share:.1%} of the machine was the run's own."
        return Finding(RULE, Verdict.PASS, own + opened)
    return Finding(RULE, Verdict.WARN, f"{'; '.join(reasons)}.{opened}", remedy=rule(RULE).remedy)


def _open_gpus(own: int) -> int:
    """GPUs with a device node, where the run has fewer; a cell may open all of them."""
    nodes = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return nodes if 0 < own < nodes else 0


def quota_throttled_s() -> float:
    """Seconds for which the control groups of this process, or one above, were throttled; 0 where nobody says."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return 0.0
    longest = 0.0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = _CGROUPS / controllers / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(_CGROUPS):
                longest = max(longest, _throttled_s(folder / "cpu.stat"))
    return longest


def _throttled_s(file: Path) -> float:
    """Of one group: version 2 counts microseconds, version 1 nanoseconds."""
    try:
        found = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        return int(found.get("throttled_usec", 0)) / 1e6 + int(found.get("throttled_time", 0)) / 1e9
    except (OSError, ValueError):
        return 0.0


def _processor_seconds() -> tuple[float, float]:
    """(busy, stolen) seconds of all processors since boot; zeros where the kernel does not say."""
    try:
        fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, stolen = fields
    return (user + nice + system + irq + softirq) / tick, stolen / tick


def _throttle_events() -> int:
    total = 0
    for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            total += int(path.read_text())
        except (OSError, ValueError):
            continue
    return total
