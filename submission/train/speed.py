"""How much arithmetic training is, how fast this device can do it at best, and what it costs in memory."""

from __future__ import annotations

import resource
import sys
import time

import torch

from ..config import Config
from ..model.hybrid import parameter_count

PRODUCT_SIDE = {"cuda": 8192, "cpu": 768}
PRODUCT_RUNS = 5


def training_flops_per_token(config: Config) -> int:
    """Floating-point operations of one token's forward and backward pass, at ``train_seq_len``.

    Counted as usual (PaLM, appendix B): nothing for norms, gates and what is computed again.
    """
    attention = config.num_attn_layers * 2 * config.train_seq_len * config.model_dim
    state = config.mamba_heads * config.mamba3_d_state * config.mamba3_headdim
    scans = (config.num_layers - config.num_attn_layers) * 4 * state
    return 6 * parameter_count(config) + 3 * (attention + scans)


def product_flops(device: torch.device) -> float:
    """FLOP/s that one large square product reaches here: bfloat16 on a GPU, float32 on a CPU. The fastest of a few."""
    side = PRODUCT_SIDE[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = torch.Generator(device).manual_seed(0)  # leaves the run's own random numbers alone
    a, b = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(PRODUCT_RUNS + 1):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds[1:])


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory in use so far: of the GPU's allocator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compiled_graphs() -> int:
    """Graphs that the compiler made in this process; a later, larger number means compilation in between."""
    compiler = sys.modules.get("torch._dynamo.utils")  # not loaded: nothing was compiled, and loading takes seconds
    return 0 if compiler is None else int(compiler.counters["stats"]["unique_graphs"])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
