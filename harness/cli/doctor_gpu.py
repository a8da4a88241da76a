"""``harness doctor --gpu``: does CUDA start in a cell, and if not, which layer keeps it out? Found by leaving them off.

Covered: any program that tells by its exit code whether it worked. Not covered: programs that work by chance, and which
file or system call of a layer it is; the program's last output, or `strace`, shows that.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import click
from tabulate import tabulate

from harness.errors import ExitCode, HarnessError
from harness.run.cells import gpu_devices, rank_environments
from harness.sandbox.cell import Cell
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.spec import CellSpec

LAYERS = ["no_new_privs", "landlock", "seccomp", "private_root", "namespaces", "capabilities", "rlimits", "environment"]
ALL_LAYERS = "all layers"
_POLL_S = 0.005
_SAID_CHARACTERS = 300
SEARCH_S = 45.0
NCCL_SEARCH_S = 420.0  # each attempt starts PyTorch twice
_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_CUDA = """
import ctypes, sys
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    sys.exit("libcuda.so.1 does not load: %s" % error)
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(text))
        sys.exit("%s: error %d %s" % (name, code, (text.value or b"").decode()))
count, version = ctypes.c_int(), ctypes.c_int()
call("cuInit", 0)
call("cuDeviceGetCount", ctypes.byref(count))
call("cuDriverGetVersion", ctypes.byref(version))
if not count.value:
    sys.exit("CUDA starts and finds no device")
print("%d devices, CUDA %d.%d" % (count.value, version.value // 1000, version.value % 1000 // 10))
"""
_TORCH = (
    "import torch; x = torch.ones(256, 256, device='cuda'); torch.cuda.synchronize(); "
    "assert (x @ x).sum().item() == 256**3; print('torch', torch.__version__, torch.cuda.get_device_name())"
)
_COMPILE = (
    "import torch; f = torch.compile(lambda x: torch.tanh(x) * 2 + 1); x = torch.ones(4096, device='cuda'); "
    "assert torch.allclose(f(x), torch.tanh(x) * 2 + 1); print('torch.compile made a kernel')"
)
_NCCL = """
import os, re
os.environ |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": "nccl.%p"}
import torch
import torch.distributed as ranks
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
ranks.init_process_group("nccl", device_id=device)
x = torch.ones(1 << 20, device=device)
ranks.all_reduce(x)
if x.sum().item() != len(x) * ranks.get_world_size():
    raise SystemExit("NCCL gave a wrong sum")
with open("nccl.%d" % os.getpid()) as log:
    ways = sorted(set(re.findall(r" via (\\S+)", log.read())))
print("%d ranks summed up, connected by %s" % (ranks.get_world_size(), ", ".join(ways) or "what NCCL does not say"))
ranks.destroy_process_group()
"""


@dataclass(frozen=True)
class Probe:
    """A program to be tried. It works when it ends with 0 in time; its last line says what it found.

    argv: command line; policy: what its cell may do; limit_s: its time; rank_env: variables of each rank
    """

    argv: tuple[str, ...]
    policy: SandboxPolicy
    limit_s: float = 10.0
    rank_env: tuple[Mapping[str, str], ...] = ({},)


@dataclass(frozen=True)
class Outcome:
    """How one attempt went."""

    what: str
    works: bool
    seconds: float
    said: str


Tell = Callable[[Outcome], None]


@dataclass
class Diagnosis:
    """All attempts, and the layers behind each of which alone the program fails.

    proven:  the program works when no more than these are left off
    stopped: why the search ended early; empty when it didn't
    """

    outcomes: list[Outcome] = field(default_factory=list)
    culprits: list[str] = field(default_factory=list)
    proven: bool = False
    stopped: str = ""

    @property
    def works(self) -> bool:
        """Whether the program works behind all layers."""
        return any(outcome.what == ALL_LAYERS and outcome.works for outcome in self.outcomes)

    def attempt(self, probe: Probe, what: str, off: frozenset[str], tell: Tell) -> bool:
        """Try once more, and tell of it at once: a search that is cut off has said something."""
        self.outcomes.append(try_once(probe, what, off))
        tell(self.outcomes[-1])
        return self.outcomes[-1].works


def diagnose(probe: Probe, *, budget_s: float = 55.0, tell: Tell = lambda _: None) -> Diagnosis:
    """Try ``probe`` behind no layer, all of them and each alone; where all is too much, name those that fail alone."""
    found, every, until = Diagnosis(), frozenset(LAYERS), time.monotonic() + budget_s
    attempts = {"no layer": every, ALL_LAYERS: frozenset[str]()}
    for layer in LAYERS:  # a private root needs namespaces
        attempts[f"{layer} alone"] = every - {layer} - ({"namespaces"} if layer == "private_root" else set())

    for what, off in attempts.items():
        if time.monotonic() > until:
            found.stopped = f"the {budget_s:.0f} s for the search were used up"
            return found
        works = found.attempt(probe, what, off, tell)
        if not (works or off != every):
            found.stopped = "it does not work outside the sandbox either"
            return found
        if not works and what != ALL_LAYERS:
            found.culprits.append(what.removesuffix(" alone"))
    if not found.works and not found.culprits:
        found.stopped = "no layer alone keeps it out"
    elif not found.works:
        found.proven = found.attempt(probe, "all layers, less those named", frozenset(found.culprits), tell)
    return found


def try_once(probe: Probe, what: str, off: frozenset[str] = frozenset()) -> Outcome:
    """Run the probe once in a cell of its own. A cell that cannot be started counts as not working.

    off: layers to leave off
    """
    since = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golf-probe-") as scratch:
        log = Path(scratch) / "log"
        spec = CellSpec("probe", probe.argv, {}, probe.rank_env, probe.policy, log, off)
        try:
            with Cell(spec, strict=False) as cell:
                cell.start()
                until = time.monotonic() + probe.limit_s
                while None in (codes := cell.exit_codes()) and time.monotonic() < until:
                    time.sleep(_POLL_S)
        except (HarnessError, OSError) as error:
            return Outcome(what, False, time.monotonic() - since, f"no cell: {error}"[:_SAID_CHARACTERS])
        lines = log.read_text(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f"no end within {probe.limit_s:g} s. {said}" if None in codes else said or f"exit codes {codes}"
    return Outcome(what, not any(code != 0 for code in codes), time.monotonic() - since, said[:_SAID_CHARACTERS])


def gpu_probe() -> Probe:
    """Start CUDA by the driver's own library, as every framework does first."""
    return Probe((sys.executable, "-I", "-S", "-c", _CUDA), _policy())


def nccl_probe() -> Probe | None:
    """Sum over two ranks by NCCL, each with a GPU; ``None`` where there are not two."""
    if sum(map(_is_gpu, gpu_devices())) < 2:
        return None
    return Probe((sys.executable, "-I", "-B", "-c", _NCCL), _policy("loopback"), 90.0, rank_environments(2))


def search(*, as_json: bool) -> ExitCode:
    """Try CUDA, then NCCL, and print what was found. Where CUDA works, further rows try torch."""
    if not gpu_devices():
        raise click.UsageError("--gpu: this machine has no /dev/nvidia* (see `harness doctor`).")

    def show(outcome: Outcome) -> None:
        text = "works" if outcome.works else "fails"
        click.echo(f"{text}  {outcome.seconds:5.2f} s  {outcome.what}: {outcome.said}", err=True)

    with contextlib.ExitStack() as held:
        for node in filter(_is_gpu, gpu_devices()):  # else the driver would have to wake them for every probe
            with contextlib.suppress(OSError):
                held.callback(os.close, os.open(node, os.O_RDWR | os.O_CLOEXEC))
        found = {"CUDA": diagnose(gpu_probe(), budget_s=SEARCH_S, tell=show)}
        if found["CUDA"].works:
            for what, further in _further():
                found["CUDA"].attempt(further, what, frozenset(), show)
            if ranks := nccl_probe():  # what to blame is searched for only where it fails behind all layers
                found["NCCL"] = Diagnosis()
                if not found["NCCL"].attempt(ranks, ALL_LAYERS, frozenset(), show):
                    found["NCCL"] = diagnose(ranks, budget_s=NCCL_SEARCH_S, tell=show)
    works = all(diagnosis.works for diagnosis in found.values())
    if as_json:
        names, more = {"CUDA": "gpu", "NCCL": "nccl"}, {"machine": machine_facts()}
        parts = {names[what]: asdict(tried) | more | {"works": tried.works} for what, tried in found.items()}
        click.echo(json.dumps({"ok": works} | parts, indent=1))
    else:
        for what, diagnosis in found.items():
            rows = [(o.what, "works" if o.works else "fails", f"{o.seconds:.2f}", o.said) for o in diagnosis.outcomes]
            headers = ("tried", what, "seconds", "said")
            click.echo(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True) + "\n")
        facts = [f"{name}: {text}" for name, text in machine_facts().items()]
        click.echo("\n".join([*facts, "", *(conclusion(diagnosis, what) for what, diagnosis in found.items())]))
    return ExitCode.GOOD if works else ExitCode.COULD_NOT_CHECK


def conclusion(found: Diagnosis, what: str = "CUDA") -> str:
    """What the rows mean, in words."""
    if found.works:
        return f"{what} starts in a cell, with every layer in force."
    if not found.culprits:
        return f"{what} does not start in a cell: {found.stopped}."
    lines = [f"{what} starts in a cell when these are left off{'' if found.proven else ' (not proven together)'}:"]
    lines += [f"  {layer}" for layer in found.culprits]
    return "\n".join([*lines, *([f"{found.stopped}."] if found.stopped else [])])


def machine_facts() -> dict[str, str]:
    """Kernel, driver and device nodes, as far as they can be read."""
    facts = {"kernel": os.uname().release, "user": f"uid {os.getuid()}"}
    for name, path in (("driver", "/proc/driver/nvidia/version"), ("parameters", "/proc/driver/nvidia/params")):
        with contextlib.suppress(OSError):
            facts[name] = Path(path).read_text(errors="replace").strip()[:2000]
    nodes = [f"{path} {oct(path.stat().st_mode)}" for path in gpu_devices()]
    return facts | {"nodes": ", ".join(nodes) or "none", "missing nodes": ", ".join(missing_nodes()) or "none"}


def missing_nodes() -> list[str]:
    """Device nodes that CUDA needs and a cell, which may run no set-user-id helper, cannot make."""
    return [node for node in _NODES if not Path(node).exists()]


def _policy(network: Literal["none", "loopback"] = "none") -> SandboxPolicy:
    return SandboxPolicy((), (), network, gpu_devices(), 0, 10**9, 4096, packages=None)


def _is_gpu(node: Path) -> bool:
    return node.name.removeprefix("nvidia").isdigit()


def _further() -> Iterator[tuple[str, Probe]]:
    """What comes after cuInit: some seconds each, and behind all layers alone."""
    python, policy = (sys.executable, "-I", "-B", "-c"), _policy()
    yield "all layers: torch", Probe((*python, _TORCH), policy, 60.0)
    yield "all layers: torch.compile", Probe((*python, _COMPILE), policy, 90.0)
