"""``harness doctor``: what this machine offers, and the command that brings what it lacks."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path
from typing import Literal

import click
import msgspec
import psutil
from packaging.requirements import Requirement

from harness.cli import JSON, epilog, say
from harness.cli.result import fitted_text
from harness.config.tracks import load_track, track_names
from harness.config.variables import runs_dir
from harness.errors import ExitCode, HarnessError
from harness.run.cells import gpu_devices, guarded_folders, rank_environments
from harness.run.machine import gpu_names, nvidia_smi, usable_gpus
from harness.sandbox.cell import Cell, CellSpec
from harness.sandbox.layers import Layer
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.restrict import FOREIGN_PROC

DISTRIBUTION = "parameter-golf-referee"
RECOMMENDED_DISK_BYTES = 20_000_000_000
_PIP = f"{sys.executable} -m pip install"
_UNCOVER = "Needed for GPUs only: start the container with --security-opt unmask=ALL (podman)"

# device nodes that CUDA needs and a cell, which may run no set-user-id helper, cannot make
_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_PYTHON = (sys.executable, "-I", "-B", "-c")
_SAID_CHARACTERS, _POLL_S = 300, 0.005
_TABLE = msgspec.toml.decode(Path(__file__).with_name("doctor.toml").read_bytes())
_EXTRAS = _TABLE["extras"]

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


@click.command(epilog=epilog("doctor"))
@JSON
@click.option("--gpu", is_flag=True, help="Also try torch.compile on a GPU, in a cell.")
def command(as_json: bool, gpu: bool) -> int:
    """Show which isolation layers, packages and GPUs this machine has, each missing one with its remedy.

    Where there are GPUs, torch is tried on one in a cell, and NCCL between two of them.
    """
    if gpu and not gpu_devices():
        raise click.UsageError("--gpu: this machine has no /dev/nvidia* (see `harness doctor`).")
    checks = [*system_checks(), *isolation_checks(), *package_checks(), *gpu_checks(further=gpu)]
    missing = [check for check in checks if check.state == "missing"]
    text = fitted_text("doctor.txt.jinja", checks=checks, missing=len(missing))
    say({"ok": not missing, "checks": checks}, text, as_json=as_json)
    return ExitCode.COULD_NOT_CHECK if missing else ExitCode.GOOD


def system_checks() -> Iterator[Check]:
    """Interpreter, kernel, processor, memory and disk."""
    yield Check("system", "Python", "ok", platform.python_version())
    linux = platform.system() == "Linux"
    found, remedy = f"{platform.system()} {platform.release()}", "Use Linux; the sandbox is made of its kernel's parts."
    yield Check("system", "kernel", "ok" if linux else "missing", found, remedy)
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total
    yield Check("system", "processor", "ok", f"{cores} cores, {memory / 1e9:.1f} GB of memory")
    free = shutil.disk_usage(next(place for place in (runs_dir(), *runs_dir().parents) if place.exists())).free
    state: State = "ok" if free >= RECOMMENDED_DISK_BYTES else "note"
    remedy = f"Set GOLF_RUNS_DIR to a disk with {RECOMMENDED_DISK_BYTES / 1e9:.0f} GB free."
    yield Check("system", "disk", state, f"{free / 1e9:.1f} GB free for runs", remedy)


def isolation_checks() -> Iterator[Check]:
    """Each layer, tried in a real cell that does nothing."""
    policy = SandboxPolicy(
        *((), (), "none", (), 1_000_000_000, 1_000_000, 4096), packages=None, tools=True, guarded=guarded_folders()
    )
    try:
        cell, _, _ = run_in_cell("pass", policy, 10.0)
    except (HarnessError, OSError) as error:
        remedy = error.remedy if isinstance(error, HarnessError) else _TABLE["remedies"]["landlock"]
        yield Check("isolation", "cell", "missing", getattr(error, "message", str(error)), remedy)
        return
    for layer, found in sorted(cell.layers.items()):
        state: State = "ok" if found.in_force else "missing"
        remedy = _TABLE["remedies"].get(layer, "")
        if layer is Layer.HARD_KILL and not cell.namespaced:
            state = "note"
        if FOREIGN_PROC in found.how:
            state, remedy = "note", _UNCOVER
        yield Check("isolation", layer, state, str(found), remedy)


def package_checks() -> Iterator[Check]:
    """The packages that this distribution asks for; those of the extras ``train`` and ``gpu`` are only noted."""
    try:
        requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        yield Check("packages", DISTRIBUTION, "missing", "not installed", f"{_PIP} -e .")
        return
    for requirement in requirements:
        marker = requirement.marker
        extra = next((name for name in _EXTRAS if marker is None or marker.evaluate({"extra": name})), None)
        if extra is None or requirement.name == DISTRIBUTION:
            continue
        state: State = "ok"
        try:
            found = metadata.version(requirement.name)
            if not requirement.specifier.contains(found, prereleases=True):
                state, found = "missing", f"{found}, wanted {requirement.specifier}"
        except metadata.PackageNotFoundError:
            state, found = "note" if extra else "missing", f"not installed{_EXTRAS[extra]}"
        remedy = f"{_PIP} '{requirement.name}{requirement.specifier}'"
        yield Check("packages", requirement.name, state, found, remedy)
        if requirement.name == "torch" and state == "ok":
            first = str(metadata.distribution("torch").locate_file("torch/__init__.py"))
            if not Path(cache_from_source(first)).exists():
                remedy = f"{sys.executable} -m compileall -q -j 0 {Path(first).parents[1]}"
                yield Check("packages", "compiled modules", "note", "torch has none: cells start slowly", remedy)


def gpu_checks(*, further: bool = False) -> Iterator[Check]:
    """GPUs as the driver lists them, which tracks they suit, and whether torch and a cell can use them."""
    if not (lines := nvidia_smi("--query-gpu=index,name,memory.total,driver_version")):
        nodes = sorted(Path("/dev").glob("nvidia[0-9]*"))
        found = f"{len(nodes)} device nodes, but nvidia-smi does not answer" if nodes else "none: CPU tracks only"
        remedy = "Install the NVIDIA driver's tools (Debian, Ubuntu: sudo apt-get install nvidia-utils-N for driver N)."
        yield Check("GPUs", "NVIDIA", "note", found, remedy if nodes else "")
        yield from cell_checks(further=further) if nodes else ()
        return
    for line in lines:
        yield Check("GPUs", f"GPU {line.split(',')[0]}", "ok", line.split(",", 1)[1].strip())
    gpus = usable_gpus()  # as far as CUDA_VISIBLE_DEVICES shows them
    for name in track_names():
        hardware = load_track(name).hardware
        if hardware.gpus:
            here = hardware.fitting(gpu_names(gpus)) if hardware.gpu_model else len(gpus)
            found = f"wants {hardware.gpus}× {hardware.gpu_model or 'any GPU'}, {here} here"
            yield Check("GPUs", f"track {name}", "ok" if here >= hardware.gpus else "note", found)
    yield from cell_checks(further=further)
    compiler = shutil.which("gcc") or shutil.which("cc")
    found = compiler or "no C compiler; Triton needs one"
    yield Check("GPUs", "compiler", "ok" if compiler else "missing", found, "sudo apt-get install gcc")


def cell_checks(*, further: bool) -> Iterator[Check]:
    """What frameworks do with GPUs, each tried in a cell. What fails there is tried outside too: whose fault is it?"""
    if missing := [node for node in _NODES if not Path(node).exists()]:
        remedy = "Start the driver once outside: sudo nvidia-modprobe -u -c=0"
        yield Check("GPUs", "device nodes", "missing", f"no {', '.join(missing)}", remedy)
    for what, program, limit_s, ranks in probes(further=further):
        network: Literal["none", "loopback"] = "none" if ranks == 1 else "loopback"
        policy = SandboxPolicy((), (), network, gpu_devices(), 0, 10**9, 4096, packages=None)
        remedy = ""
        try:
            _, codes, lines = run_in_cell(program, policy, limit_s, ranks)
        except (HarnessError, OSError) as error:
            works, found = False, f"no cell: {error}"
        else:
            late = f"no end within {limit_s:g} s. " if None in codes else ""
            works, found = all(code == 0 for code in codes), f"{late}{lines[-1] if lines else f'exit codes {codes}'}"
        if not works and ranks == 1:
            remedy = f"It fails outside a cell too: the driver is to blame, or torch: {_PIP} --force-reinstall torch"
            with contextlib.suppress(subprocess.SubprocessError):
                subprocess.run([*_PYTHON, program], capture_output=True, timeout=limit_s, check=True)
                remedy = "It works outside a cell: report this line, with the versions of driver and kernel."
        yield Check("GPUs", f"{what} in a cell", "ok" if works else "missing", found[:_SAID_CHARACTERS], remedy)


def probes(*, further: bool) -> Iterator[tuple[str, str, float, int]]:
    """Name, program, seconds, ranks: torch; if ``further`` a kernel that it compiles; NCCL where there are two GPUs."""
    gpus = len(usable_gpus())
    for probe in _TABLE["probes"]:
        if (further or not probe.get("further")) and (ranks := probe.get("ranks", 1)) <= max(gpus, 1):
            yield probe["name"], probe["program"], probe["seconds"], ranks


def run_in_cell(
    program: str, policy: SandboxPolicy, limit_s: float, ranks: int = 1
) -> tuple[Cell, list[int | None], list[str]]:
    """A Python program in a cell: the cell, each rank's exit code (``None``: it ran too long), and what it printed."""
    with tempfile.TemporaryDirectory(prefix="golf-doctor-") as scratch:
        log = Path(scratch) / "log"
        spec = CellSpec("doctor", (*_PYTHON, program), {}, rank_environments(ranks), policy, log)
        with Cell(spec, strict=False) as cell:
            cell.start()
            until = time.monotonic() + limit_s
            while None in (codes := cell.exit_codes()) and time.monotonic() < until:
                time.sleep(_POLL_S)
        lines = [line.strip() for line in log.read_text(errors="replace").split("\n") if line.strip()]
    return cell, codes, lines
