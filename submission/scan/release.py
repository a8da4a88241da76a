"""The SISO kernels of the ``mamba-ssm`` release, as a back end of the scan (extra ``gpu``).

Only its Triton files are imported: the package's top level wants compiled CUDA extensions that the scan doesn't need.
Its autotuning is bounded: each kernel gets the few configurations in ``WARPS`` and ``STAGES`` in place of 234.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .inputs import ScanState

PACKAGE = "mamba_ssm"
FOLDERS = ("", ".ops", ".ops.triton", ".ops.triton.mamba3")
KERNELS = {
    "mamba3_siso_fwd": ("mamba3_siso_fwd_kernel",),
    "mamba3_siso_bwd": (
        "mamba3_siso_bwd_kernel_dzdo", "mamba3_siso_bwd_kernel_dqkv", "mamba3_siso_bwd_kernel_rotary_bias_angles",
        "mamba3_siso_bwd_kernel_ddt_dtrap_dinput_states",
    ),
    "angle_dt": ("angle_dt_fwd_kernel", "angle_dt_bwd_kernel"),
}  # fmt: skip
WARPS, STAGES = (4, 8), (1, 2)


class ReleaseInputs(NamedTuple):
    """As ``ScanInputs``, but q and k (b, L, 1, N) normed without bias; trap (b, L, H) and angles (b, L, R) logits."""

    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor
    log_decay: Tensor
    dt: Tensor
    trap: Tensor
    angles: Tensor
    q_bias: Tensor
    k_bias: Tensor
    d: Tensor


def usable() -> bool:
    """Whether the release and Triton are installed."""
    return find_spec("triton") is not None and find_spec(PACKAGE) is not None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def release_scan(inputs: ReleaseInputs, state: ScanState | None, carry: bool) -> tuple[Tensor, ScanState | None]:
    """y (b, L, H, P) bf16, gated, and the state after the last token where ``carry``.

    The release returns its final angle in bf16 (up to 0.016 rad off); here the running float32 sum is carried.
    """
    x = inputs
    heads = x.v.shape[2]
    states = None if state is None else tuple(part.float() for part in state)
    if not torch.is_grad_enabled():  # the release stores backward tensors for anything that requires grad
        x = ReleaseInputs(*(part.detach() for part in x))
    angles = x.angles.bfloat16()[:, :, None].expand(-1, -1, heads, -1)
    dt = x.dt.mT.contiguous()
    result: Any = _entry().mamba3_siso_combined(
        x.q, x.k, x.v, x.log_decay.mT.contiguous(), dt, x.trap.mT.contiguous(), x.q_bias, x.k_bias, angles, x.d, x.z,
        Input_States=states, return_final_states=carry,
    )  # fmt: skip
    if not carry:
        return result, None
    y, _, s, k, v = result
    start = None if states is None else states[0].contiguous()
    _, theta = _module("angle_dt").angle_dt_fwd(
        angles.float().contiguous(), dt, init_state=start, chunk_size=64, return_output_state=True
    )
    return y, ScanState(theta, s, k.clone(), v.clone())


@cache
def _entry() -> ModuleType:
    entry = _module("mamba3_siso_combined")
    triton = import_module("triton")
    for file, names in KERNELS.items():
        for name in names:
            kernel = getattr(_module(file), name)
            kernel.configs = _bounded(kernel.configs, triton)
    return entry


def _bounded(configs: list[Any], triton: Any) -> list[Any]:
    """The first configuration's block sizes with few warps and stages."""
    blocks = configs[-1].kwargs
    return [triton.Config(blocks, num_warps=w, num_stages=s) for w in WARPS for s in STAGES]


@cache
def _installed() -> ModuleSpec | None:
    return find_spec(PACKAGE)


def _module(name: str) -> ModuleType:
    spec = _installed()
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("mamba-ssm is not installed; install the extra `gpu` or set MAMBA3_BACKEND=auto.")
    root = Path(spec.submodule_search_locations[0])
    for folder in FOLDERS:
        full = PACKAGE + folder
        if full not in sys.modules:
            package = ModuleType(full)
            package.__spec__ = ModuleSpec(full, None, is_package=True)
            package.__path__ = [str(root.joinpath(*folder.split(".")[1:]))]
            sys.modules[full] = package
    return import_module(f"{PACKAGE}.ops.triton.mamba3.{name}")
