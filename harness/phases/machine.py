"""Facts about the machine for the record, without anything that identifies its owner."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from harness.record.predicate import Machine

PACKAGES = ("torch", "numpy", "sentencepiece", "triton", "mamba-ssm", "flash-attn", "cryptography", "msgspec")


def describe_machine() -> Machine:
    """System, processor, memory, GPUs and the packages that matter."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        cpu=_cpu_name(),
        cpu_cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=_gpus(),
        python=platform.python_version(),
        packages=_versions(),
    )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names and memory of the GPUs; asked of nvidia-smi, so that the referee makes no CUDA context for it."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
