"""Starts the cells of a run: the command line, the environment and the policy of each phase."""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import harness
from harness.config.environment import cache_dir, keys_dir, records_dir, runs_dir
from harness.phases.context import RunContext
from harness.phases.manifest import accepted_variables
from harness.phases.reserve import reserved_cores
from harness.record.predicate import ReadablePart
from harness.sandbox.cell import Cell
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.runtime import PACKAGES, TOOLS, Part, inventory, make_resident, runtime
from harness.sandbox.spec import CellSpec

_NCCL = {  # it sees the machine's adapters in /sys and its plug-ins in /usr, and a cell may use none of them
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_IB_DISABLE": "1",
    "NCCL_NET_PLUGIN": "none",
    "NCCL_DEBUG": "WARN",
}
_HARNESS = Path(harness.__file__).resolve().parent
TRIED_FILES = 3
BOOTSTRAP = _HARNESS / "protocol" / "bootstrap.py"


@contextmanager
def phase_cell(
    context: RunContext,
    phase: str,
    *,
    module: str,
    limit_s: float,
    code_root: Path | None = None,
    name: str = "",
    ranks: int = 1,
    read: tuple[Path, ...] = (),
    write: tuple[Path, ...] = (),
    extra: Mapping[str, str] | None = None,
) -> Iterator[Cell]:
    """A running cell of ``phase``. At the end everything in it is killed and the kill is noted in the context.

    code_root: sealed code to run (default: the run's); read, write: what the cell may touch beyond that code
    extra:     further ``GOLF_*`` variables of the phase
    """
    track, root, title = context.track, code_root or context.sealed.root, name or phase
    log_file = context.log_file(title)
    log_file.parent.mkdir(exist_ok=True)
    spec = CellSpec(
        name=title,
        argv=(sys.executable, "-I", "-B", str(BOOTSTRAP), str(root), module),
        env=_environment(context, phase, limit_s, ranks) | dict(extra or {}),
        rank_env=rank_environments(ranks),
        policy=SandboxPolicy(
            read=(root, _HARNESS / "__init__.py", _HARNESS / "protocol", *read),
            write=write,
            # training may start processes that hand each other tensors, such as those of a DataLoader
            network="loopback" if ranks > 1 else "local" if phase == "train" else "none",
            devices=gpu_devices() if track.hardware.gpus else (),
            memory_bytes=track.limits.memory_bytes,
            file_bytes=track.limits.checkpoint_bytes,
            processes=track.limits.processes,
            # what training or packaging reads counts when it reaches the model file; evaluation may read what it needs
            packages=_packages(context) if phase == "eval" else None,
            tools=phase != "eval" or context.compiles,
            guarded=guarded_folders(context),
            cores=reserved_cores(),
            counters=phase != "eval",
        ),
        log_file=log_file,
    )
    if (extra or {}).get("GOLF_STAGE") == "final":  # what is in memory at the start tells nothing of earlier cells
        make_resident(readable_runtime(context), (root, *read))
    with Cell(spec, strict=track.official) as cell:
        try:
            cell.start()
            context.note_isolation(cell.layers)
            yield cell
        finally:
            context.kills.append((title, cell.kill(f"{title} is over")))


def _packages(context: RunContext) -> tuple[str, ...]:
    return (*PACKAGES, *context.sealed.manifest.packages)


def readable_runtime(context: RunContext, *, tools: bool = False) -> tuple[Part, ...]:
    """What the cells of the evaluation read of the machine.

    tools: with compilers and drivers, where they need them; gigabytes, of which little is read before the first token
    """
    gpus = context.track.hardware.gpus > 0
    parts = runtime(_packages(context), tools=gpus or context.compiles, gpus=gpus)
    return parts if tools else tuple(part for part in parts if part.name != TOOLS)


def readable_parts(context: RunContext) -> list[ReadablePart]:
    """The same for the record, with sizes and digests."""
    found = inventory(readable_runtime(context, tools=True))
    return [ReadablePart(part.name, part.files, part.bytes, part.digest) for part in found]


def guarded_folders(context: RunContext | None = None) -> dict[str, tuple[Path, ...]]:
    """What no cell may read, each with a few of its files for every rank to try: the referee's folders, and HOME."""
    named: dict[str, tuple[Path, ...]] = {
        "cache": (cache_dir(),),
        "keys": (keys_dir(),),
        "records": (records_dir(),),
        "runs": (runs_dir(),),
    }
    if home := os.environ.get("HOME"):
        named["home"] = (Path(home),)
    if context is not None:
        named["runs"] += (context.run_dir, context.run_dir / "logs")
        named["data"] = (context.data_dir,) if context.data_dir else ()
    found = {
        name: tuple(path for folder in folders for path in _to_be_tried(folder)) for name, folders in named.items()
    }
    return {name: paths for name, paths in found.items() if paths}


def _to_be_tried(folder: Path) -> list[Path]:
    """A folder that is there, and some files right in it, validation text first."""
    try:
        files = [path for path in itertools.islice(folder.iterdir(), 1000) if path.is_file()]
    except OSError:
        return []
    files.sort(key=lambda path: ("val" not in path.name, path.name))
    return [folder, *files[:TRIED_FILES]]


def gpu_devices() -> tuple[Path, ...]:
    """Device nodes that a CUDA process opens."""
    return tuple(sorted(Path("/dev").glob("nvidia*")))


def _environment(context: RunContext, phase: str, limit_s: float, ranks: int) -> dict[str, str]:
    track = context.track
    threads = str(max(1, track.hardware.cpu_cores // ranks))
    return accepted_variables(context.sealed.manifest, context.environ) | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TORCHINDUCTOR_COMPILE_THREADS": threads,
        # By default a waiting thread of GNU OpenMP spins for milliseconds. Where others want the processors too, that
        # takes them from the thread it waits for: small operations ran at a quarter of this speed. Far less than this
        # made an evaluation on a quiet machine take 1.7 times as long. What is computed is the same.
        "GOMP_SPINCOUNT": "20000",
        "SEED": str(context.seed),
        "GOLF_PHASE": phase,
        "GOLF_TRACK": track.name,
        "GOLF_VOCAB_SIZE": str(track.vocab_size),
        "GOLF_BOS_ID": str(context.bos_id),
        "GOLF_LIMIT_S": repr(limit_s),
        "GOLF_CPU_CORES": str(track.hardware.cpu_cores),
        "GOLF_GPUS": str(track.hardware.gpus),
    }


def rank_environments(ranks: int) -> tuple[dict[str, str], ...]:
    """The variables of each rank, with a port of the loopback for their rendezvous."""
    port = str(_free_port()) if ranks > 1 else "0"
    return tuple(
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "GLOO_SOCKET_IFNAME": "lo",
            **_NCCL,
        }
        for rank in range(ranks)
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
