"""Engines: where workers start. Each only starts a command and says whether it still runs; results are files.

``local``  processes on this machine, as many at once as it has room for; GPUs and cores are given exclusively
``slurm``  jobs of a Slurm cluster, by submitit (extra ``fleet``)
``ray``    tasks of a Ray cluster, by ray (extra ``fleet``)
"""

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.config.tracks import Hardware
from harness.errors import CouldNotCheck, UsageError
from harness.fleet.queue import Job, Queue
from harness.run.machine import gpu_indices, usable_gpus
from harness.run.reserve import share_of_cores

# the options that each takes; Slurm knows its own
ENGINES: dict[str, tuple[str, ...] | None] = {"local": (), "slurm": None, "ray": ("address",)}
STOP_GRACE_S = 5.0
SLURM_MINUTES = 120


class Engine(ABC):
    """Starts workers. A handle is whatever the engine likes."""

    def room(self, job: Job) -> bool:
        """Whether the engine takes this job now; one with a queue of its own always does."""
        return True

    @abstractmethod
    def start(self, job: Job) -> Any:
        """Start a worker for ``job``, which has its GPUs and cores for itself alone."""

    @abstractmethod
    def alive(self, handle: Any) -> bool:
        """Whether the worker may still run or is still waiting for a machine."""

    @abstractmethod
    def close(self) -> None:
        """Stop what this engine started."""


def worker_command(queue: Queue, job: Job) -> list[str]:
    """The command line of a worker."""
    return [sys.executable, "-P", "-m", "harness.fleet.worker", str(queue.folder), job.id]


class LocalEngine(Engine):
    """A pool on this machine. ``slots``: runs at once; ``gpus``: indices that may be given out; ``cores``: in all."""

    def __init__(self, queue: Queue, slots: int, gpus: tuple[str, ...], cores: int = 1) -> None:
        self._queue, self._slots, self._gpus, self._cores = queue, slots, gpus, cores
        self._all_gpus = len(gpu_indices())
        self._running: dict[subprocess.Popen[bytes], tuple[tuple[str, ...], int]] = {}

    def room(self, job: Job) -> bool:
        """Whether a slot, the job's GPUs and its cores are free. Raises ``UsageError`` when they never can be."""
        if job.gpus > len(self._gpus):
            words = f"{job.title} needs {job.gpus} GPUs; this machine has {len(self._gpus)}."
            raise UsageError(words, remedy="Use --on slurm or --on ray.")
        cores = self._share(job) + sum(cores for _, cores in self._running.values())
        return len(self._running) < self._slots and job.gpus <= len(self._free()) and cores <= self._cores

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        """Start a worker that sees its own GPUs and no others."""
        given = self._free()[: job.gpus]
        environ = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ",".join(given)}
        process = subprocess.Popen(worker_command(self._queue, job), env=environ, start_new_session=True)
        self._running[process] = given, self._share(job)
        return process

    def _free(self) -> tuple[str, ...]:
        return tuple(gpu for gpu in self._gpus if all(gpu not in given for given, _ in self._running.values()))

    def _share(self, job: Job) -> int:
        """The cores that the job's run will reserve."""
        return share_of_cores(Hardware(job.cores, job.gpus), cores=self._cores, gpus=self._all_gpus)

    def alive(self, handle: subprocess.Popen[bytes]) -> bool:
        """Also takes back the GPUs and cores of a process that does not run any more."""
        if handle.poll() is not None:
            self._running.pop(handle, None)
        return handle.poll() is None

    def close(self) -> None:
        """End every worker and its run: interrupt them as Ctrl-C would, then kill."""
        for number in (signal.SIGINT, signal.SIGKILL):
            for process in filter(self.alive, list(self._running)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in list(self._running):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_GRACE_S)
        self._running.clear()


class SlurmEngine(Engine):
    """Jobs of a Slurm cluster. submitit writes and follows them; what it pickles is our own command line."""

    def __init__(self, queue: Queue, options: Mapping[str, str]) -> None:
        self._queue, self._options, self._handles = queue, dict(options), list[Any]()
        self._submitit = import_module("submitit")
        logs = queue.folder / "slurm" / secrets.token_hex(8)  # jobs unpickle what lies there under their number
        try:
            python = f"{shlex.quote(sys.executable)} -P"  # nothing is imported from the folder of the job
            self._executor = self._submitit.AutoExecutor(folder=logs, cluster="slurm", slurm_python=python)
        except RuntimeError as error:
            words = f"submitit found no Slurm here: {str(error).rstrip('.?')}."
            raise CouldNotCheck(words, remedy="Run this on a login node.") from error

    def start(self, job: Job) -> Any:
        """Submit a worker."""
        options: dict[str, Any] = {"timeout_min": SLURM_MINUTES}
        options |= {"slurm_" + name: value for name, value in self._options.items()}
        options |= {"name": f"golf-{job.id}"[:60], "gpus_per_node": job.gpus, "tasks_per_node": 1, "nodes": 1}
        options |= {"cpus_per_task": job.cores} if job.cores else {}
        self._executor.update_parameters(**options)
        command = worker_command(self._queue, job)
        function = self._submitit.helpers.CommandFunction(command, verbose=False, cwd=Path.cwd())
        self._handles.append(self._executor.submit(function))
        return self._handles[-1]

    def alive(self, handle: Any) -> bool:
        """Whether Slurm still waits for it or runs it."""
        return not handle.done()

    def close(self) -> None:
        """Cancel what is not done."""
        for handle in filter(self.alive, self._handles):
            handle.cancel()


class RayEngine(Engine):
    """Tasks of a Ray cluster (``address`` as ray.init takes it; empty: a cluster of this machine alone)."""

    def __init__(self, queue: Queue, options: Mapping[str, str]) -> None:
        self._queue, self._ray = queue, import_module("ray")
        address = options.get("address") or None
        try:
            self._ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
        except Exception as error:  # Ray has no other word for a node that a busy machine did not start in 30 s
            self._ray.shutdown()
            words = f"Ray did not start, or the cluster did not answer: {str(error).partition(chr(10))[0].rstrip('.')}."
            remedy = "Try again when the machine is less busy; or check the address."
            raise CouldNotCheck(words, remedy=remedy) from error
        self._largest_node = max(float(node["Resources"].get("CPU", 1)) for node in self._ray.nodes())

    def start(self, job: Job) -> Any:
        """Ray's own retries are off: the driver counts attempts."""
        cpus = min(float(job.cores or 1), self._largest_node)

        # A function of its own: ray sends it by value. One of this module would be imported there, and from the folder
        # where the driver was started if that holds a `harness`.
        def call(command: list[str]) -> int:
            import subprocess

            return subprocess.run(command, check=False).returncode

        task = self._ray.remote(num_cpus=cpus, num_gpus=job.gpus, max_retries=0)(call)
        return task.remote(worker_command(self._queue, job))

    def alive(self, handle: Any) -> bool:
        """Whether the task waits or runs."""
        done, _ = self._ray.wait([handle], timeout=0)
        return not done

    def close(self) -> None:
        """Leave the cluster; tasks of this driver end."""
        self._ray.shutdown()


def make_engine(name: str, queue: Queue, *, slots: int, options: Mapping[str, str]) -> Engine:
    """The engine called ``name``. Raises ``UsageError`` for an unknown one, or options that it does not take."""
    if name not in ENGINES:
        raise UsageError(f"--on is {name!r}; wanted one of {', '.join(ENGINES)}.", remedy="Example: --on local.")
    known = ENGINES[name]
    if known is not None and (unknown := sorted(set(options) - set(known))):
        takes = " and ".join(known) or "no option"
        raise UsageError(f"--on {name} takes {takes}, not {', '.join(unknown)}.", remedy="Leave the others out.")
    if name == "local":
        return LocalEngine(queue, slots, usable_gpus(), len(os.sched_getaffinity(0)))
    return SlurmEngine(queue, options) if name == "slurm" else RayEngine(queue, options)
