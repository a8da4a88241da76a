"""Facts about the machine for the record, without anything that identifies its owner."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import psutil

import harness
from harness.record.canonical import canonical_digest, file_digest
from harness.record.predicate import Machine, Provenance

PACKAGES = ("torch", "numpy", "sentencepiece", "triton", "mamba-ssm", "flash-attn", "cryptography", "msgspec")


def describe_machine() -> Machine:
    """System, processor, memory, GPUs and the packages that matter."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        cpu=_cpu_name(),
        cpu_cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=nvidia_smi("--query-gpu=name,memory.total"),
        python=platform.python_version(),
        packages=_versions(),
    )


def describe_provenance() -> Provenance:
    """The referee by digest and commit, every package by its list of files, C library, driver, CUDA, image."""
    root = Path(harness.__file__).resolve().parent
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return Provenance(
        referee=canonical_digest({path.relative_to(root).as_posix(): file_digest(path) for path in files}),
        commit=_commit(root),
        libc=" ".join(platform.libc_ver()).strip(),
        driver=next(iter(nvidia_smi("--query-gpu=driver_version")), ""),
        cuda=_cuda(),
        image=_image(),
        packages=dict(sorted(_packages())),
    )


def _commit(root: Path) -> str:
    """The commit that holds ``root`` in its repository, and whether files of it differ from that; "" without one."""
    git = ["git", "-C", str(root), "-c", "core.fsmonitor=false"]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True)
        command = [*git, "status", "--porcelain", "--", "."]
        changes = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        listed = [*git, "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(listed, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def _cuda() -> str:
    try:
        from torch.version import cuda
    except ImportError:
        return ""
    return cuda or ""


def _image() -> str:
    """The id that Podman and Buildah tell a container of its image; other engines tell none."""
    try:
        text = Path("/run/.containerenv").read_text()
    except OSError:
        return ""
    found = re.search(r'^imageid="([0-9a-f]{64})"$', text, re.MULTILINE)
    return found[1] if found else ""


def _packages() -> Iterator[tuple[str, str]]:
    for found in metadata.distributions():
        record = found.read_text("RECORD")
        digest = hashlib.sha256(record.encode()).hexdigest() if record else ""
        if found.name:
            yield f"{found.name.lower()}=={found.version}", digest


def gpu_indices() -> dict[str, str]:
    """UUID -> index of every GPU of the machine, as nvidia-smi numbers them; empty without a driver."""
    rows = (line.split(",") for line in nvidia_smi("--query-gpu=index,uuid"))
    return {uuid.strip(): index.strip() for index, uuid in rows}


def visible_gpus() -> tuple[str, ...]:
    """Indices of this machine's GPUs, or of those that CUDA_VISIBLE_DEVICES leaves; a name that nobody knows stays."""
    visible, machine = os.environ.get("CUDA_VISIBLE_DEVICES"), gpu_indices()
    if visible is None:
        return tuple(machine.values())
    return tuple(_gpu_index(name.strip(), machine) for name in visible.split(",") if name.strip())


def usable_gpus() -> tuple[str, ...]:
    """The visible GPUs up to the first that is not there: CUDA shows none behind it. Parts of a GPU (MIG) count."""
    known = set(gpu_indices().values())
    return tuple(itertools.takewhile(lambda gpu: gpu in known or gpu.startswith("MIG-"), visible_gpus()))


def gpu_names(gpus: Sequence[str]) -> list[str]:
    """The names of ``gpus`` (indices or UUIDs) as far as nvidia-smi tells them."""
    return nvidia_smi("--query-gpu=name", "-i", ",".join(gpus)) if gpus else []


def _gpu_index(name: str, machine: dict[str, str]) -> str:
    """CUDA takes indices and beginnings of UUIDs."""
    if not name.startswith("GPU-"):
        return name
    return next((index for uuid, index in machine.items() if uuid.startswith(name)), name)


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


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
