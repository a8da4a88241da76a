"""The scan against the SISO kernels of the ``mamba-ssm`` release (2.3.2.post1), at equal sizes in one process.

Only the release's Triton files are imported: its top level wants compiled CUDA extensions that the scan doesn't need.
The configurations that its full search chose on an H200 are pinned here, so that nothing is searched.
"""

import math
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from submission.config import Config
from submission.scan.fused import fused_scan
from submission.scan.inputs import ScanInputs

PACKAGE = "mamba_ssm"
FOLDERS = ("", ".ops", ".ops.triton", ".ops.triton.mamba3")
PINNED: dict[tuple[str, str], dict[str, Any]] = {
    ("mamba3_siso_fwd", "mamba3_siso_fwd_kernel"): {"num_warps": 4, "num_stages": 3, "maxnreg": 256},
    ("mamba3_siso_bwd", "mamba3_siso_bwd_kernel_dzdo"): {"CHUNK_SIZE": 32, "num_warps": 8, "num_stages": 1},
    ("mamba3_siso_bwd", "mamba3_siso_bwd_kernel_dqkv"): {"num_warps": 4, "num_stages": 2, "maxnreg": 256},
    ("mamba3_siso_bwd", "mamba3_siso_bwd_kernel_rotary_bias_angles"): {"num_warps": 4, "num_stages": 3},
    ("mamba3_siso_bwd", "mamba3_siso_bwd_kernel_ddt_dtrap_dinput_states"): {
        "CHUNK_SIZE": 256, "num_warps": 4, "num_stages": 3, "maxnreg": 128,
    },
    ("angle_dt", "angle_dt_fwd_kernel"): {"num_warps": 4, "num_stages": 1},
    ("angle_dt", "angle_dt_bwd_kernel"): {"num_warps": 2, "num_stages": 1},
}  # fmt: skip


def scan_against_release(config: Config, windows: int) -> dict[str, float] | str:
    """Milliseconds (medians) of forward, and of forward with backward, of one layer's scan on ``windows`` windows."""
    if find_spec("triton") is None or find_spec(PACKAGE) is None:
        return "mamba-ssm and Triton are not both installed"
    from triton.testing import do_bench

    b, length, heads = windows, config.train_seq_len, config.mamba_heads
    n, p, r = config.mamba3_d_state, config.mamba3_headdim, config.rotation_angles
    shapes = [(b, length, n)] * 2 + [(b, length, 2 * heads * p)] + [(b, length, heads)] * 3 + [(b, length, r)]
    leaves = [torch.randn(*s, device="cuda", dtype=torch.bfloat16).requires_grad_() for s in shapes]
    leaves += [torch.randn(*s, device="cuda").requires_grad_() for s in ((heads, n), (heads, n), (heads,))]
    dy = torch.randn(b, length, heads * p, device="cuda", dtype=torch.bfloat16)
    figures: dict[str, float] = {}
    for name, run in (("fused", torch.compile(_fused, fullgraph=True)), ("release", _release)):
        y = run(*leaves)
        forward = do_bench(lambda run=run: run(*leaves), return_mode="median")
        both = do_bench(lambda run=run: torch.autograd.grad(run(*leaves), leaves, dy), return_mode="median")
        figures |= {f"{name}_forward_ms": round(forward, 3), f"{name}_ms": round(both, 3)}
        del y
    return figures | {"over_release": round(figures["release_ms"] / figures["fused_ms"], 3)}


def _quantities(decay: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    dt = F.softplus(step.float() - 3)
    return -F.softplus(decay.float()) * dt, dt


def _fused(*leaves: Tensor) -> Tensor:
    q, k, zv, step, decay, trap, angles, q_bias, k_bias, d = leaves
    a, dt = _quantities(decay, step)
    omega = math.pi * angles.float().tanh()
    inputs = ScanInputs(q, k, zv, a, dt, trap.float().sigmoid(), omega, d)
    return fused_scan(inputs, zv, (q_bias, k_bias))


def _release(*leaves: Tensor) -> Tensor:
    q, k, zv, step, decay, trap, angles, q_bias, k_bias, d = leaves
    a, dt = _quantities(decay, step)
    z, v = zv.unflatten(-1, (2, len(d), -1)).unbind(2)
    spread = angles[:, :, None].expand(-1, -1, len(d), -1)
    y = _entry()(q[:, :, None], k[:, :, None], v, a.mT, dt.mT, trap.mT, q_bias, k_bias, spread, d, z)
    return y.flatten(2)


def _entry() -> Callable[..., Tensor]:
    combined = _module("mamba3_siso_combined")
    triton = import_module("triton")
    for (file, name), options in PINNED.items():
        kernel = getattr(_module(file), name)
        launch = {key: value for key, value in options.items() if key != "CHUNK_SIZE"}
        kernel.configs = [triton.Config({k: v for k, v in options.items() if k not in launch}, **launch)]
    entry: Callable[..., Tensor] = combined.mamba3_siso_combined
    return entry


def _module(name: str) -> ModuleType:
    spec = find_spec(PACKAGE) if PACKAGE not in sys.modules else sys.modules[PACKAGE].__spec__
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    for folder in FOLDERS:
        full = PACKAGE + folder
        if full not in sys.modules:
            package = ModuleType(full)
            package.__spec__ = ModuleSpec(full, None, is_package=True)
            package.__spec__.submodule_search_locations = [str(root.joinpath(*folder.split(".")[1:]))]
            package.__path__ = package.__spec__.submodule_search_locations
            sys.modules[full] = package
    return import_module(f"{PACKAGE}.ops.triton.mamba3.{name}")
