"""What a cell may do, as data."""

import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from harness.errors import CouldNotCheck, UsageError
from harness.files import told
from harness.sandbox.copies import with_copies
from harness.sandbox.landlock import DEVICE, NAME_THREADS, READ, READ_DIR, RUN, WRITE
from harness.sandbox.restrict import STACK_BYTES
from harness.sandbox.runtime import PACKAGES, PATHS, Part, existing, runtime


@dataclass(frozen=True)
class SandboxPolicy:
    """The rights of one cell; everything that is not named is refused.

    read:         files and folders that may be read, beyond the interpreter and the system's libraries
    write:        folders that may be written too, beyond the cell's private temporary folder
    network:      "none", "local" for sockets among the cell's own processes, or "loopback" for several ranks
    devices:      device nodes that may be opened (GPUs)
    memory_bytes: private memory of one process (RLIMIT_DATA; not applied where GPUs are granted)
    file_bytes:   largest file that may be written
    processes:    processes and threads in the cell
    user_threads: those that the user runs already, which the kernel counts too; ``None``: as many as there are
    packages:     distributions that may be imported, with what they require; ``None``: all that is installed. Such a
                  cell also sees how much the whole machine has done (forks, page faults, bytes written)
    tools:        whether compilers and other programs of the system may be run; always with GPUs
    guarded:      name -> folders and files that no cell may read, and that each rank tries to open before it starts
    cores:        processors that it runs on, by number; empty: all
    copies:       the referee's folder of packages without documentation, which hide the installed ones in a root of the
                  cell's own; ``None``: it sees these
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    network: Literal["none", "local", "loopback"]
    devices: tuple[Path, ...]
    memory_bytes: int
    file_bytes: int
    processes: int
    user_threads: int | None = None
    packages: tuple[str, ...] | None = PACKAGES
    tools: bool = False
    guarded: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    copies: Path | None = None

    @property
    def runtime(self) -> tuple[Part, ...]:
        """What may be read so that Python, the packages and the tools run."""
        gpus = bool(self.devices)
        parts = runtime(self.packages, tools=self.tools or gpus, gpus=gpus)
        return with_copies(parts, self.copies) if self.copies else parts

    @property
    def system_files(self) -> tuple[Path, ...]:
        """What every Python process looks up about its machine, as far as it is there."""
        return existing((*PATHS["files"], *(PATHS["hardware"] if self.devices or self.network == "loopback" else ())))


GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LONGEST_TMPDIR = 107 - len("/golf-cell-xxxxxxxx/torch-shm-dir-xxxxxx/manager.sock")  # what Linux takes, at most
LEAST_FILES, LEAST_THREADS, LEAST_CPU_S = 256, 128, 100_000  # what any cell needs: torch, its threads, their time
_MAX_INHERITED = 4096  # characters: paths and names, no data
_FABRIC = {  # multicast on the GPUs' links is off unless the user asks for it: a program that uses it can harm others
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
_INHERITED: dict[str, Callable[[str], object]] = {  # with GPUs; name -> whether a value is of its kind
    "CUDA_HOME": lambda value: (Path(value) / "bin" / "nvcc").exists(),
    "CUDA_DEVICE_ORDER": ("PCI_BUS_ID", "FASTEST_FIRST").__contains__,
    "CUDA_VISIBLE_DEVICES": re.compile(r"[\w,/:. -]*").fullmatch,  # a run names those that it holds
    **dict.fromkeys(_FABRIC, ("0", "1", "2").__contains__),
}


def landlock_rules(policy: SandboxPolicy, home: Path) -> list[tuple[str, int]]:
    """The policy as (path, rights), with what every Python process needs.

    home: the cell's private temporary folder. Paths of the policy must exist; those of the system may be missing.
    """
    rules = [
        *((path, RUN) for part in policy.runtime for path in part.paths),
        *((path, READ_DIR) for part in policy.runtime for path in part.listed),
        *((path, READ) for path in (*policy.read, *policy.system_files, Path("/proc/self"))),
        *((path, DEVICE) for path in (*existing(PATHS["devices"]), *policy.devices)),
        *((Path("/proc/self/task"), NAME_THREADS) for _ in policy.devices[:1]),
        *((path, WRITE) for path in (*policy.write, home)),
    ]
    return [(str(path), rights) for path, rights in rules]


def mounts(policy: SandboxPolicy) -> list[str]:
    """What a root of the cell's own holds beside the writable folders: few folders where the rules name many files."""
    runtime = [path for part in policy.runtime for path in part.mounts]
    return list(map(str, (*runtime, *policy.system_files, *existing(PATHS["devices"]), *policy.devices, *policy.read)))


def covered(policy: SandboxPolicy) -> list[str]:
    """Files and folders that are empty in a root of the cell's own; CUDA may look at the memory, so it sees that."""
    if policy.packages is None:
        return []
    kept = (*PATHS["kept"], *["meminfo"] * bool(policy.devices))
    found = [path for path in Path("/proc").iterdir() if not path.name.isdigit() and path.name not in kept]
    found += [path for name in PATHS["of_nodes"] for path in Path("/sys/devices/system/node").glob(f"node*/{name}")]
    return list(map(str, (*found, Path("/proc/sys/fs"))))


def inherited(gpus: bool) -> dict[str, str]:
    """The user's own variables that each cell has, where they are what their names say: what else they hold is data."""
    own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept = _FABRIC | {name: value for name, value in own.items() if _INHERITED[name](value)} if gpus else {}
    places = filter(os.path.isabs, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    libraries = [place for place in dict.fromkeys(places) if any(Path(place).glob("*.so*"))]
    return kept | ({"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {})


def cell_environment(home: Path, gpus: bool) -> dict[str, str]:
    """The variables that every cell has; nothing else of the referee's own environment reaches it.

    Raises ``UsageError`` for an inherited one that is too long to be what its name says.
    """
    programs = (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/cuda/bin")
    kept = inherited(gpus)
    for name, value in kept.items():
        if len(value) > _MAX_INHERITED:
            text = f"the environment variable {name} is {len(value):,} characters long; {_MAX_INHERITED:,} at most."
            raise UsageError(text, remedy=f"Shorten or unset {name}: a cell inherits it.")
    # only a rank may start CUDA, but its compiler's child processes, too, ask whether there is a GPU
    kept |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"} if gpus else {}
    return kept | {"PATH": os.pathsep.join(programs), "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}


def resource_limits(policy: SandboxPolicy) -> dict[str, int]:
    """The policy's limits by the names of ``resource``.

    CUDA reserves hundreds of gigabytes of address space, so memory is not limited where GPUs are granted. The kernel
    counts the threads of a user, not of a cell, so those that run already are added; it does not count root's.
    """
    threads = threads_of_user() if policy.user_threads is None else policy.user_threads
    limits = {"RLIMIT_FSIZE": policy.file_bytes, "RLIMIT_NPROC": policy.processes + threads, "RLIMIT_CORE": 0}
    return limits if policy.devices else limits | {"RLIMIT_DATA": policy.memory_bytes}


def refuse_low_limits(policy: SandboxPolicy) -> None:
    """Raise ``CouldNotCheck`` where a limit that was set for the referee itself would end an honest cell."""
    threads = threads_of_user() if os.getuid() else 0
    wanted = {
        "RLIMIT_NOFILE": (LEAST_FILES, "ulimit -n"),
        "RLIMIT_FSIZE": (policy.file_bytes, "ulimit -f"),
        "RLIMIT_STACK": (STACK_BYTES, "ulimit -s"),
        "RLIMIT_NPROC": (threads + LEAST_THREADS if threads else 0, "ulimit -u"),
        "RLIMIT_CPU": (LEAST_CPU_S, "ulimit -t"),
        "RLIMIT_AS": (policy.memory_bytes, "ulimit -v"),
        "RLIMIT_DATA": (policy.memory_bytes, "ulimit -d"),
    }
    for name, (least, command) in wanted.items():
        hard = resource.getrlimit(getattr(resource, name))[1]
        if hard != resource.RLIM_INFINITY and hard < least:
            have = f"; {threads:,} threads of this user run already" if name == "RLIMIT_NPROC" else ""
            raise CouldNotCheck(
                f"this shell's limit {name} is {hard:,}, and a cell needs {least:,}{have}.",
                remedy=f"Raise the hard limit ({command}; /etc/security/limits.conf, or the container's --ulimit).",
            )
    if policy.network != "none" and len(os.fsencode(place := tempfile.gettempdir())) > LONGEST_TMPDIR:
        text = f"the path {place} is over {LONGEST_TMPDIR} bytes: sockets of a cell's processes have no room in it."
        raise CouldNotCheck(text, remedy="Set TMPDIR to a folder with a shorter path.")
    for group in control_groups("pids"):
        most, there = told(group / "pids.max").strip(), told(group / "pids.current").strip()
        if most.isdecimal() and there.isdecimal() and int(most) - int(there) < LEAST_THREADS:
            held = f"the control group {group} takes {most} processes and threads; {there} are there"
            remedy = "Raise its pids.max: a container's --pids-limit, a unit's TasksMax."
            raise CouldNotCheck(f"{held}, and a cell needs {LEAST_THREADS}.", remedy=remedy)


def control_groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups that may have ``controller``, and of those above; version 1 or 2."""
    for line in told(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            group = GROUPS / controllers / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(GROUPS))


def threads_of_user() -> int:
    """Threads that this user runs already, as the kernel counts them; 0 where /proc does not say."""
    there = (process.info for process in psutil.process_iter(("uids", "num_threads")))
    return sum(found["num_threads"] or 0 for found in there if found["uids"] and found["uids"].real == os.getuid())
