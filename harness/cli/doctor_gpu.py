"""``harness doctor --gpu``: does CUDA start in a cell, and if not, which layer keeps it out?"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from tabulate import tabulate

from harness.errors import ExitCode
from harness.run.cells import gpu_devices, rank_environments
from harness.sandbox.diagnose import ALL_LAYERS, Diagnosis, Outcome, Probe, diagnose, try_once
from harness.sandbox.policy import SandboxPolicy

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


def gpu_probe() -> Probe:
    """Start CUDA by the driver's own library, as every framework does first."""
    return Probe((sys.executable, "-I", "-S", "-c", _CUDA), _policy())


def nccl_probe() -> Probe | None:
    """Sum over two ranks by NCCL, each with a GPU; ``None`` where there are not two."""
    if sum(map(_is_gpu, gpu_devices())) < 2:
        return None
    return Probe((sys.executable, "-I", "-B", "-c", _NCCL), _policy("loopback"), 90.0, rank_environments(2))


def search(*, as_json: bool) -> ExitCode:
    """Try CUDA, then NCCL, and print what was found. Where CUDA works, further rows try memory, torch and a child.

    Each attempt is shown on standard error as it ends, so that a search that is cut off has said something.
    """
    if not gpu_devices():
        raise click.UsageError("--gpu: this machine has no /dev/nvidia* (see `harness doctor`).")

    def show(outcome: Outcome) -> None:
        text = "works" if outcome.works else "fails"
        click.echo(f"{text}  {outcome.seconds:5.2f} s  {outcome.what}: {outcome.said}", err=True)

    with devices_open():
        found = {"CUDA": diagnose(gpu_probe(), budget_s=SEARCH_S, tell=show)}
        if found["CUDA"].works:
            for what, further in _further():
                found["CUDA"].outcomes.append(try_once(further, what))
                show(found["CUDA"].outcomes[-1])
            if ranks := nccl_probe():  # what to blame is searched for only where it fails behind all layers
                found["NCCL"] = Diagnosis([try_once(ranks, ALL_LAYERS)])
                show(found["NCCL"].outcomes[0])
                if not found["NCCL"].works:
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


@contextmanager
def devices_open() -> Iterator[None]:
    """Hold the GPUs open, so that the driver need not wake them for every probe."""
    with contextlib.ExitStack() as held:
        for node in filter(_is_gpu, gpu_devices()):
            with contextlib.suppress(OSError):
                held.callback(os.close, os.open(node, os.O_RDWR | os.O_CLOEXEC))
        yield


def _policy(network: Literal["none", "loopback"] = "none") -> SandboxPolicy:
    return SandboxPolicy((), (), network, gpu_devices(), 0, 10**9, 4096, packages=None)


def _is_gpu(node: Path) -> bool:
    return node.name.removeprefix("nvidia").isdigit()


def _further() -> Iterator[tuple[str, Probe]]:
    """What comes after cuInit: some seconds each, and behind all layers alone."""
    python, policy = (sys.executable, "-I", "-B", "-c"), _policy()
    yield "all layers: torch", Probe((*python, _TORCH), policy, 60.0)
    yield "all layers: torch.compile", Probe((*python, _COMPILE), policy, 90.0)
