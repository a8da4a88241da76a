"""The project's Triton kernels: what they compute (on a CPU, by Triton's interpreter) and how exactly a GPU does it.

A process interprets kernels or compiles them, for good; so the interpreted test runs in a process of its own.
"""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
GPU_BOUND = 1e-2  # norm-relative: bf16 operands and outputs; measured 2e-3 to 9e-3 on an H100


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted_kernels_equal_the_chunked_scan_in_values_and_gradients():
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    script = ROOT / "tests" / "support" / "interpreted_kernels.py"
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).detach())


@pytest.mark.gpu
@pytest.mark.parametrize("length", [64, 256, 1000, 4096])
def test_the_kernels_equal_the_float64_scan_within_bf16_rounding(length):
    from submission.config import load_config
    from submission.model.mamba3 import Mamba3

    config = load_config({"RECIPE": "pr1890"}, "non_record_16mb")
    g = torch.Generator().manual_seed(length)
    x, weight = (torch.randn(2, length, 512, generator=g).bfloat16() for _ in range(2))
    results = []
    for name, dtype in (("chunked", torch.float64), ("fused", torch.float32)):
        torch.manual_seed(1)
        mixer = Mamba3(dataclasses.replace(config, mamba3_backend=name)).to("cuda", dtype)
        with torch.no_grad():
            for parameter in (mixer.in_proj.weight, mixer.out_proj.weight):
                parameter.copy_(parameter.bfloat16())
        inputs = (x.double() if dtype == torch.float64 else x).cuda().requires_grad_()
        y = mixer(inputs)
        results.append((y, torch.autograd.grad((y * weight.cuda().to(y.dtype)).sum(), [inputs, *mixer.parameters()])))
    (want, want_gradients), (got, gradients) = results
    assert relative(got, want) < GPU_BOUND
    for a, b in zip(gradients, want_gradients, strict=True):
        assert relative(a, b) < 3e-2


@pytest.mark.gpu
def test_no_output_of_the_kernels_depends_on_a_later_input():
    from submission.config import load_config
    from submission.model.mamba3 import Mamba3

    config = load_config({"RECIPE": "pr1890"}, "non_record_16mb")
    mixer = Mamba3(dataclasses.replace(config, mamba3_backend="fused")).cuda()
    x = torch.randn(1, 300, 512, device="cuda", dtype=torch.bfloat16)
    changed = x.clone()
    changed[:, 131] += 1
    with torch.no_grad():
        before, after = mixer(x), mixer(changed)
    assert torch.equal(before[:, :131], after[:, :131])
