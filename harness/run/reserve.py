"""A run reserves its GPUs and processor cores, so that several runs share one machine without sharing any part of it.

Covered: runs of one cache folder on one host; a reservation ends with its process, however that ends. Not covered: work
that asks nobody, and what all runs of a machine share (memory bandwidth, disk, power): S7-OWN-MACHINE tells of both.
Cells are pinned to the run's cores and can't undo that; the referee's own threads are not.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from harness.config.tracks import Hardware
from harness.config.variables import cache_dir
from harness.errors import CouldNotCheck, UsageError
from harness.files import locked, told
from harness.run.machine import gpu_indices, usable_gpus

CORES: ContextVar[tuple[int, ...]] = ContextVar("cores", default=())  # that this run holds; empty outside reserved()
SINCE: ContextVar[float] = ContextVar("since", default=0.0)  # when it took them
TURN_S = 30.0  # others may need so long to take or give back what they reserve; it is a matter of milliseconds


@contextmanager
def reserved(hardware: Hardware, wanted_by: str = "the run") -> Iterator[None]:
    """Hold what a track's run needs for the block: its GPUs, and its cores or as many as there are.

    wanted_by: words for the message, such as "track smoke"
    Inside the block CUDA shows the run's GPUs and no others. Raises ``CouldNotCheck`` when there are fewer GPUs than
    wanted, or another run holds a part.
    """
    if len(here := usable_gpus()) < hardware.gpus:  # its rank would fail when the run is announced
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        limited = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible!r}"
        model = f" ({hardware.gpu_model})" if hardware.gpu_model else ""
        text = f"{wanted_by} wants {hardware.gpus} GPUs{model}; nvidia-smi shows {len(here)} here{limited}."
        remedy = f"Use a machine with {hardware.gpus} GPUs, all of them visible, or another track"
        raise CouldNotCheck(text, remedy=f"{remedy}; `harness doctor` shows what is here.")
    folder = cache_dir() / "reserved" / socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True)
    gpus, taken = run_gpus(hardware), list[int]()
    with ExitStack() as held:
        # One run at a time looks for free parts; else two could take half each and both give up.
        turn = folder / "turn.lock"
        text = f"{turn} was held for {TURN_S:g} s by another run that is starting."
        remedy = "If no run is starting, stop the process that holds the file (`fuser` names it)."
        with locked(turn, wait_s=TURN_S, taken=CouldNotCheck(text, remedy=remedy)):
            for gpu in gpus:
                if not held.enter_context(locked(path := folder / f"gpu-{gpu}.lock")):
                    remedy = "Wait until that run has finished, or name free GPUs in CUDA_VISIBLE_DEVICES."
                    raise CouldNotCheck(f"GPU {gpu} is taken by another run ({path}).", remedy=remedy)
            cores = sorted(os.sched_getaffinity(0), key=_whole_cores_first)
            wanted = share_of_cores(hardware, cores=len(cores), gpus=len(gpu_indices()) if hardware.gpus else 0)
            for core in cores:
                if len(taken) < wanted and held.enter_context(locked(folder / f"core-{core}.lock")):
                    taken.append(core)
            if len(taken) < wanted:
                text = f"the run needs {wanted} processor cores for itself; {len(taken)} of {len(cores)} are free"
                spoilt = "two runs on the same cores would spoil each other's clocks."
                remedy = f"Wait until one of them has finished: {spoilt}"
                raise CouldNotCheck(f"{text}, other runs hold the rest ({folder}).", remedy=remedy)
        held.callback(CORES.reset, CORES.set(tuple(taken)))
        held.callback(SINCE.reset, SINCE.set(time.time()))
        held.callback((folder / "ended").touch)
        if gpus:  # referee and cells see them only, numbered as nvidia-smi numbers them
            for name, value in (("CUDA_VISIBLE_DEVICES", ",".join(gpus)), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")):
                held.callback(os.environ.update, {name: os.environ[name]} if name in os.environ else {})
                held.callback(os.environ.pop, name)  # comes first
                os.environ[name] = value
        yield


def ran_beside() -> bool:
    """Whether another run has had a part of this machine since this one reserved its own."""
    if not (own := {f"core-{core}.lock" for core in CORES.get()}):
        return False
    folder = cache_dir() / "reserved" / socket.gethostname()
    with locked(folder / "turn.lock", wait_s=TURN_S):  # nobody takes a part while it is looked at
        for path in (path for path in folder.glob("core-*.lock") if path.name not in own):
            with locked(path, shared=True) as free:
                if not free:
                    return True
    return (ended := folder / "ended").exists() and ended.stat().st_mtime > SINCE.get()


def going_on(run_dir: Path) -> AbstractContextManager[bool]:
    """Hold a run's folder while the run goes on. Raises ``UsageError`` when it goes on in another process."""
    taken = UsageError(f"{run_dir.name} still goes on in another process.", remedy="Wait until it has ended.")
    return locked(run_dir / "run.lock", taken=taken)


def run_gpus(hardware: Hardware) -> tuple[str, ...]:
    """The GPUs that a run uses: the first usable ones, as many as its track asks for."""
    return usable_gpus()[: hardware.gpus]


def share_of_cores(hardware: Hardware, *, cores: int, gpus: int) -> int:
    """How many of a machine's ``cores`` a run reserves: what its track asks for, at most its GPUs' part of them.

    >>> share_of_cores(Hardware(cpu_cores=16, gpus=1), cores=64, gpus=8)
    8
    """
    part = max(1, cores * hardware.gpus // gpus) if hardware.gpus and gpus else cores
    return min(hardware.cpu_cores, part, cores)


def _whole_cores_first(core: int) -> tuple[bool, int]:
    """The second hardware thread of a physical core comes after the first ones of all."""
    siblings = told(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return siblings.strip().replace("-", ",").partition(",")[0] not in ("", str(core)), core
