"""``harness doctor``: what this machine offers, and the command that brings what it lacks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click
import psutil
from packaging.requirements import Requirement

from harness.cli.result import fitted_table
from harness.config.tracks import load_track, track_names
from harness.config.variables import runs_dir
from harness.errors import ExitCode, HarnessError
from harness.sandbox.cell import Cell
from harness.sandbox.layers import Layer
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.restrict import FOREIGN_PROC
from harness.sandbox.spec import CellSpec

DISTRIBUTION = "parameter-golf-referee"
RECOMMENDED_DISK_BYTES = 20_000_000_000
_PIP = f"{sys.executable} -m pip install"
_KERNEL = "Boot Linux 5.13 or newer with Landlock: add lsm=landlock to the front of the kernel's lsm= list."
_LAYER_REMEDIES = {
    "landlock": _KERNEL,
    "seccomp": "Boot a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64.",
    "network": "Allow unprivileged user namespaces (see hard_kill).",
    "hard_kill": "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000"
    "   (in a container: start it with --security-opt seccomp=unconfined)",
}

_UNCOVER = "Needed for GPUs only: start the container with --security-opt unmask=ALL (podman)"

State = Literal["ok", "missing", "note"]


@dataclass
class Check:
    """One thing that was looked at. "missing" makes the command fail, "note" does not.

    remedy: what to do about it; dropped where all is well
    """

    area: str
    name: str
    state: State
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.state == "ok":
            self.remedy = ""


@click.command(epilog="Exit codes: 0 everything needed is there, 3 something is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.option(
    "--gpu",
    is_flag=True,
    help="Start CUDA, and NCCL on two GPUs, in a cell; name the layer that keeps them out.",
)
def command(as_json: bool, gpu: bool) -> None:
    """Show which isolation layers, packages and GPUs this machine has, each missing one with its remedy.

    \b
    harness doctor
    harness doctor --json | jq '.checks[] | select(.state != "ok")'
    harness doctor --gpu
    """
    if gpu:
        from harness.cli.doctor_gpu import search

        raise SystemExit(search(as_json=as_json))
    checks = [*system_checks(), *isolation_checks(), *package_checks(), *gpu_checks()]
    missing = [check for check in checks if check.state == "missing"]
    if as_json:
        click.echo(json.dumps({"ok": not missing, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        click.echo(render(checks))
    if missing:
        raise SystemExit(ExitCode.COULD_NOT_CHECK)


def render(checks: list[Check]) -> str:
    """The checks as a table, then what to do about those that are not ok."""
    rows = [(check.area, check.name, check.state, check.found) for check in checks]
    parts = [fitted_table(("area", "what", "state", "found"), rows)]
    todo = [check for check in checks if check.state != "ok" and check.remedy]
    if todo:
        parts.append("\n".join(f"{check.state:<7}  {check.name}: {check.remedy}" for check in todo))
    missing = sum(check.state == "missing" for check in checks)
    parts.append(f"{missing} needed things are missing." if missing else "Everything that is needed is here.")
    return "\n\n".join(parts)


def system_checks() -> Iterator[Check]:
    """Interpreter, kernel, processor, memory and disk."""
    yield Check("system", "Python", "ok", platform.python_version())
    linux = platform.system() == "Linux"
    found, remedy = f"{platform.system()} {platform.release()}", "Use Linux; the sandbox is made of its kernel's parts."
    yield Check("system", "kernel", "ok" if linux else "missing", found, remedy)
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total
    yield Check("system", "processor", "ok", f"{cores} cores, {memory / 1e9:.1f} GB of memory")
    place = runs_dir()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    state: State = "ok" if free >= RECOMMENDED_DISK_BYTES else "note"
    remedy = f"Set GOLF_RUNS_DIR to a disk with {RECOMMENDED_DISK_BYTES / 1e9:.0f} GB free."
    yield Check("system", "disk", state, f"{free / 1e9:.1f} GB free for runs", remedy)


def isolation_checks() -> Iterator[Check]:
    """Each layer, tried in a real cell that does nothing."""
    from harness.run.cells import guarded_folders

    with tempfile.TemporaryDirectory(prefix="golf-doctor-") as scratch:
        log = Path(scratch) / "log"
        policy = SandboxPolicy(
            *((), (), "none", (), 1_000_000_000, 1_000_000, 4096), packages=None, tools=True, guarded=guarded_folders()
        )
        spec = CellSpec("doctor", (sys.executable, "-I", "-S", "-c", "pass"), {}, ({},), policy, log)
        try:
            with Cell(spec, strict=False) as cell:
                cell.start()
                layers, namespaced = dict(cell.layers), cell.namespaced
        except (HarnessError, OSError) as error:
            words = (error.message, error.remedy) if isinstance(error, HarnessError) else (str(error), _KERNEL)
            yield Check("isolation", "cell", "missing", *words)
            return
    for layer, found in sorted(layers.items()):
        state: State = "ok" if found.in_force else "missing"
        remedy = _LAYER_REMEDIES.get(layer, "")
        if layer is Layer.HARD_KILL and not namespaced:
            state = "note"
        if FOREIGN_PROC in found.how:
            state, remedy = "note", _UNCOVER
        yield Check("isolation", layer, state, str(found), remedy)


_WITHOUT = {
    "": "",
    "train": " (submit, try, script and rerun need it)",
    "gpu": " (fast kernels on a GPU; the pure torch path works without)",
}
"""Extras that are looked at, and what their packages are for."""


def package_checks() -> Iterator[Check]:
    """The packages that this distribution asks for; those of the extras ``train`` and ``gpu`` are only noted."""
    try:
        requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        yield Check("packages", DISTRIBUTION, "missing", "not installed", f"{_PIP} -e .")
        return
    for requirement in requirements:
        marker = requirement.marker
        extra = next((name for name in _WITHOUT if marker is None or marker.evaluate({"extra": name})), None)
        if extra is None or requirement.name == DISTRIBUTION:
            continue
        state: State = "missing"
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            state, found = "note" if extra else "missing", f"not installed{_WITHOUT[extra]}"
        else:
            if requirement.specifier.contains(found, prereleases=True):
                state = "ok"
            else:
                found += f", wanted {requirement.specifier}"
        remedy = f"{_PIP} '{requirement.name}{requirement.specifier}'"
        yield Check("packages", requirement.name, state, found, remedy)


def gpu_checks() -> Iterator[Check]:
    """GPUs as the driver lists them, which tracks they suit, and whether torch and a cell can use them."""
    from harness.run.machine import gpu_names, usable_gpus

    query = ["nvidia-smi", "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        nodes = sorted(Path("/dev").glob("nvidia[0-9]*"))
        found = f"{len(nodes)} device nodes, but nvidia-smi does not answer" if nodes else "none: CPU tracks only"
        remedy = "Install the NVIDIA driver's tools (Debian, Ubuntu: sudo apt-get install nvidia-utils-N for driver N)."
        yield Check("GPUs", "NVIDIA", "note", found, remedy if nodes else "")
        return
    for line in filter(None, map(str.strip, answer.splitlines())):
        yield Check("GPUs", f"GPU {line.split(',')[0]}", "ok", line.split(",", 1)[1].strip())
    gpus = usable_gpus()  # as far as CUDA_VISIBLE_DEVICES shows them
    for name in track_names():
        hardware = load_track(name).hardware
        if hardware.gpus:
            here = hardware.fitting(gpu_names(gpus)) if hardware.gpu_model else len(gpus)
            found = f"wants {hardware.gpus}× {hardware.gpu_model or 'any GPU'}, {here} here"
            yield Check("GPUs", f"track {name}", "ok" if here >= hardware.gpus else "note", found)
    query = [sys.executable, "-P", "-c", "import torch; print(torch.version.cuda, torch.cuda.is_available())"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=120, check=True).stdout
        usable, text = answer.split()[-1] == "True", f"CUDA {answer.split()[0]}"
    except (OSError, subprocess.SubprocessError, IndexError):
        usable, text = False, "torch does not start"
    remedy = f"{_PIP} --force-reinstall torch   (a build with CUDA that fits the driver)"
    yield Check("GPUs", "torch", "ok" if usable else "missing", text, remedy)
    yield from _cell_checks()
    compiler = shutil.which("gcc") or shutil.which("cc")
    found = compiler or "no C compiler; Triton needs one"
    yield Check("GPUs", "compiler", "ok" if compiler else "missing", found, "sudo apt-get install gcc")


def _cell_checks() -> Iterator[Check]:
    from harness.cli.doctor_gpu import gpu_probe, missing_nodes, nccl_probe, try_once

    if missing := missing_nodes():
        remedy = "Start the driver once outside: sudo nvidia-modprobe -u -c=0"
        yield Check("GPUs", "device nodes", "missing", f"no {', '.join(missing)}", remedy)
    for what, probe in (("CUDA", gpu_probe()), ("NCCL", nccl_probe())):
        if probe:
            outcome = try_once(probe, "")
            remedy = f"harness doctor --gpu   (names the layer that keeps {what} out)"
            yield Check("GPUs", f"{what} in a cell", "ok" if outcome.works else "missing", outcome.said, remedy)
