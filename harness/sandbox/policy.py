"""What a cell may do, as data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


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


_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/opt/cuda")
_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/driver/nvidia",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def interpreter_paths() -> tuple[Path, ...]:
    """Folders of this interpreter, its packages and the system's libraries: readable and executable in every cell."""
    places = [Path(p) for p in (*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)]
    places.append(Path(sys.executable).resolve().parent.parent)
    return tuple(dict.fromkeys(path for path in places if path.exists()))


def system_files() -> tuple[Path, ...]:
    """Single files of the system that libraries read at start."""
    return tuple(path for path in map(Path, _FILES) if path.exists())


def harmless_devices() -> tuple[Path, ...]:
    """Device nodes that carry no state."""
    return tuple(path for path in map(Path, _DEVICES) if path.exists())
