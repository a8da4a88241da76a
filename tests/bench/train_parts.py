"""Where a training step's time goes: the profiler's operators and kernels, sorted into the parts of a step."""

import re
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

COLLECTIVES = "collectives"
PARTS = (  # the first pattern that fits decides
    ("scan backward", r"(state|chunk|gate|rotate)_backward|siso_scan_backward"),
    ("scan forward", r"(scan|rotate)_forward|siso_scan"),
    ("compiled pointwise and norms", r"^triton_"),
    ("attention", r"flash|fmha|attention|sdpa"),
    ("loss", r"^_row|softmax|nll|cross_entropy"),
    ("optimiser", r"multi_tensor|foreach|adam|lerp"),
    (COLLECTIVES, r"nccl|gloo|c10d"),
    ("matrix products", r"gemm|nvjet|cutlass|xmma|cublas|addmm|baddbmm|::mm|::bmm"),
    ("copies and fills", r"memcpy|memset|copy_|::cat|fill|zero"),
)
OTHER = "pointwise, norms and the rest"


def part_of(name: str) -> str:
    """The part of a step that an operator (on a CPU) or a kernel (on a GPU) belongs to."""
    return next((part for part, pattern in PARTS if re.search(pattern, name, re.IGNORECASE)), OTHER)


def profiled(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Share of each part in the busy time of one step, the largest first."""
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as trace:
        step()
        if gpu:
            torch.cuda.synchronize()
    spent: dict[str, float] = {}
    for event in trace.key_averages():
        if gpu:
            time = event.self_device_time_total if event.device_type == DeviceType.CUDA else 0.0
        else:
            time = event.self_cpu_time_total
        spent[part_of(event.key)] = spent.get(part_of(event.key), 0.0) + time
    whole = sum(spent.values())
    return {part: round(time / whole, 4) for part, time in sorted(spent.items(), key=lambda item: -item[1]) if time}
