"""Engines: where workers start. Each only starts a command and says whether it still runs; results are files.

``local``  processes on this machine, as many at once as it has room for; GPUs are given exclusively
``slurm``  jobs of a Slurm cluster, by submitit (extra ``fleet``)
``ray``    tasks of a Ray cluster, by ray (extra ``fleet``)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from harness.errors import CouldNotCheck, UsageError
from harness.fleet.queue import Job, Queue

NAMES = ("local", "slurm", "ray")
STOP_GRACE_S = 5.0
SLURM_MINUTES = 120


class Engine(Protocol):
    """Starts workers. A handle is whatever the engine likes."""

    def room(self, job: Job) -> bool:
        """Whether the engine takes this job now; engines with a queue of their own always do."""

    def start(self, job: Job) -> Any:
        """Start a worker for ``job``."""

    def alive(self, handle: Any) -> bool:
        """Whether the worker may still run or is still waiting for a machine."""

    def close(self) -> None:
        """Stop what this engine started."""


def worker_command(queue: Queue, job: Job) -> list[str]:
    """The command line of a worker."""
    return [sys.executable, "-m", "harness.fleet.worker", str(queue.folder), job.id]


class LocalEngine:
    """A pool on this machine. ``slots``: runs at once; ``gpus``: indices that may be given out."""

    def __init__(self, queue: Queue, slots: int, gpus: tuple[str, ...]) -> None:
        self._queue, self._slots, self._free = queue, slots, list(gpus)
        self._running: dict[subprocess.Popen[bytes], list[str]] = {}

    def room(self, job: Job) -> bool:
        """Whether a slot and the job's GPUs are free. Raises ``UsageError`` when they never can be."""
        held = sum(len(gpus) for gpus in self._running.values())
        if job.gpus > len(self._free) + held:
            raise UsageError(
                f"{job.title} needs {job.gpus} GPUs; this machine has {len(self._free) + held}.",
                remedy="Use --on slurm or --on ray.",
            )
        return len(self._running) < self._slots and job.gpus <= len(self._free)

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        """Start a worker that sees its own GPUs and no others."""
        given, self._free = self._free[: job.gpus], self._free[job.gpus :]
        environ = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ",".join(given)}
        process = subprocess.Popen(worker_command(self._queue, job), env=environ, start_new_session=True)
        self._running[process] = given
        return process

    def alive(self, handle: subprocess.Popen[bytes]) -> bool:
        """Whether the process runs; takes back its GPUs when it does not."""
        if handle.poll() is None:
            return True
        self._free += self._running.pop(handle, [])
        return False

    def close(self) -> None:
        """End every worker and its run: interrupt them as Ctrl-C would, then kill."""
        for process in self._running:
            _signal_group(process, signal.SIGINT)
        for process in self._running:
            try:
                process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
        self._running.clear()


class SlurmEngine:
    """Jobs of a Slurm cluster. submitit writes and follows them; what it pickles is our own command line."""

    def __init__(self, queue: Queue, options: Mapping[str, str], cluster: str = "slurm") -> None:
        self._queue, self._options, self._handles = queue, dict(options), list[Any]()
        self._submitit = _import("submitit")
        logs = queue.folder / "slurm"
        try:
            self._executor = self._submitit.AutoExecutor(folder=logs, cluster=cluster)
        except RuntimeError as error:
            raise CouldNotCheck(
                f"submitit found no Slurm here: {error}.", remedy="Run this on a login node."
            ) from error

    def room(self, job: Job) -> bool:
        """Slurm has a queue of its own."""
        return True

    def start(self, job: Job) -> Any:
        """Submit a worker; Slurm gives GPUs exclusively."""
        options: dict[str, Any] = {"timeout_min": SLURM_MINUTES}
        options |= {"slurm_" + name: value for name, value in self._options.items()}
        options |= {"name": f"golf-{job.id}"[:60], "gpus_per_node": job.gpus, "tasks_per_node": 1, "nodes": 1}
        self._executor.update_parameters(**options)
        function = self._submitit.helpers.CommandFunction(
            worker_command(self._queue, job), verbose=False, cwd=Path.cwd()
        )
        handle = self._executor.submit(function)
        self._handles.append(handle)
        return handle

    def alive(self, handle: Any) -> bool:
        """Whether Slurm still waits for it or runs it."""
        return not handle.done()

    def close(self) -> None:
        """Cancel what is not done."""
        for handle in self._handles:
            if not handle.done():
                handle.cancel()


class RayEngine:
    """Tasks of a Ray cluster (``address`` as ray.init takes it; empty: a cluster of this machine alone)."""

    def __init__(self, queue: Queue, options: Mapping[str, str]) -> None:
        self._queue, self._ray = queue, _import("ray")
        address = options.get("address") or None
        self._ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
        self._cpus = float(options.get("cpus", "1"))

    def room(self, job: Job) -> bool:
        """Ray has a queue of its own."""
        return True

    def start(self, job: Job) -> Any:
        """Start a task; Ray gives GPUs exclusively. Ray's own retries are off: the driver counts attempts."""
        task = self._ray.remote(num_cpus=self._cpus, num_gpus=job.gpus, max_retries=0)(_call)
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
    if name == "local":
        if options:
            raise UsageError(f"--on local takes no option {', '.join(options)}.", remedy="Use --workers.")
        return LocalEngine(queue, slots, local_gpus())
    if name == "slurm":
        return SlurmEngine(queue, options)
    if name == "ray":
        unknown = set(options) - {"address", "cpus"}
        if unknown:
            raise UsageError(f"--on ray takes address and cpus, not {', '.join(sorted(unknown))}.")
        return RayEngine(queue, options)
    raise UsageError(f"--on is {name!r}; wanted one of {', '.join(NAMES)}.")


def local_gpus() -> tuple[str, ...]:
    """Indices of this machine's GPUs, or of those that CUDA_VISIBLE_DEVICES leaves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part for part in visible.split(",") if part.strip())
    from harness.phases.machine import describe_machine

    return tuple(str(index) for index in range(len(describe_machine().gpus)))


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _call(command: list[str]) -> int:
    import subprocess

    return subprocess.run(command, check=False).returncode


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise CouldNotCheck(f"{name} is not installed.", remedy="pip install 'parameter-golf-referee[fleet]'") from None
