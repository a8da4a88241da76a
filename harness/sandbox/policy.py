"""What a cell may do, as data."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError


@dataclass(frozen=True)
class SandboxPolicy:
    """The rights of one cell; everything that is not named is refused.

    read:         files and folders that may be read, beyond the interpreter and the system's libraries
    write:        folders that may be written too, beyond the cell's private temporary folder
    network:      "none", or "loopback" for the rendezvous of several ranks
    devices:      device nodes that may be opened (GPUs)
    memory_bytes: private memory of one process (RLIMIT_DATA; not applied where GPUs are granted)
    file_bytes:   largest file that may be written
    processes:    processes and threads in the cell
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    network: Literal["none", "loopback"]
    devices: tuple[Path, ...]
    memory_bytes: int
    file_bytes: int
    processes: int


_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/opt/cuda")
_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
)
_HARDWARE = (  # what CUDA, NCCL and Gloo look up about GPUs, links and interfaces
    "/proc/driver",
    "/proc/modules",
    "/sys/bus/pci",
    "/sys/dev",
    "/sys/devices",
    "/sys/module",
    "/sys/class",
    "/etc/vulkan",
    "/etc/OpenCL",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/cuda/bin")
_MAX_INHERITED = 4096  # characters: paths and names, no data
_INHERITED = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "TZ")
_FABRIC = {  # multicast on the GPUs' links is off unless the user asks for it: a program that uses it can harm others
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}


@dataclass(frozen=True)
class Relaxation:
    """What a cell leaves off to find out which layer or rule a program cannot live with; never used for a run.

    layers: names of layers, or of "namespaces", "capabilities", "private_root" and "environment"
    paths:  further Landlock rules, as path and rights
    calls:  system calls that the filter lets through
    """

    layers: frozenset[str] = frozenset()
    paths: tuple[tuple[str, int], ...] = ()
    calls: frozenset[str] = frozenset()


STRICT = Relaxation()


def landlock_rules(policy: SandboxPolicy, home: Path) -> list[tuple[str, str]]:
    """The policy as (path, "read" | "run" | "write" | "device"), with what every Python process needs.

    home: the cell's private temporary folder. Paths of the policy must exist; those of the system may be missing.
    """
    rules = [(path, "run") for path in _existing(*_SYSTEM, *interpreter_paths())]
    hardware = _HARDWARE if policy.devices or policy.network == "loopback" else ()
    rules += [(path, "read") for path in _existing(*_FILES, *hardware)]
    rules += [(path, "device") for path in (*_existing(*_DEVICES), *policy.devices)]
    rules += [(path, "run") for path in _existing(*_library_folders())]
    rules += [(Path("/proc/self"), "read")]
    rules += [(Path("/proc/self/task"), "name threads")] if policy.devices else []
    rules += [(path, "read") for path in policy.read]
    rules += [(path, "write") for path in (*policy.write, home)]
    return [(str(path), kind) for path, kind in rules]


def interpreter_paths() -> tuple[Path, ...]:
    """Folders of this interpreter and its packages: readable and executable in every cell."""
    places = [Path(place) for place in (sys.prefix, sys.base_prefix, sys.exec_prefix)]
    return (*places, Path(sys.executable).resolve().parent.parent)


def _library_folders() -> tuple[str, ...]:
    """Where the user's loader looks as well: on many machines the GPU driver's libraries lie there."""
    return tuple(place for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if place.startswith("/"))


def cell_environment(home: Path, gpus: bool) -> dict[str, str]:
    """The variables that every cell has; nothing else of the referee's own environment reaches it.

    Raises ``UsageError`` for an inherited one that is too long to be what its name says.
    """
    path = os.pathsep.join(
        (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/cuda/bin")
    )
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept |= {name: os.environ.get(name, value) for name, value in _FABRIC.items()} if gpus else {}
    for name, value in kept.items():
        if len(value) > _MAX_INHERITED:
            raise UsageError(
                f"the environment variable {name} is {len(value):,} characters long; {_MAX_INHERITED:,} at most.",
                remedy=f"Shorten or unset {name}: a cell inherits it.",
            )
    # only a rank may start CUDA, but its compiler's child processes, too, ask whether there is a GPU
    kept |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"} if gpus else {}
    return kept | {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}


def resource_limits(policy: SandboxPolicy) -> dict[str, int]:
    """The policy's limits by the names of ``resource``.

    CUDA reserves hundreds of gigabytes of address space, so memory is not limited where GPUs are granted. The kernel
    counts processes a user and does not count root's.
    """
    limits = {"RLIMIT_FSIZE": policy.file_bytes, "RLIMIT_NPROC": policy.processes, "RLIMIT_CORE": 0}
    return limits if policy.devices else limits | {"RLIMIT_DATA": policy.memory_bytes}


def _existing(*places: str | Path) -> tuple[Path, ...]:
    return tuple(path for path in dict.fromkeys(map(Path, places)) if path.exists())
