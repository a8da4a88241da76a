"""The mixer: initial values as the release has them, decoding, and module-level agreement of both scans."""

import torch
from small_models import small_config
from torch.nn import functional as F

from submission.model.mamba3 import DT_MAX, DT_MIN, Mamba3
from submission.scan.sequential import sequential_scan

BOUND = 1e-10


def test_initial_steps_lie_in_their_range_and_biases_are_one():
    torch.manual_seed(1)
    mixer = Mamba3(small_config(mamba3_headdim=2))
    dt = F.softplus(mixer.dt_bias)
    assert float(dt.detach().min()) >= DT_MIN * 0.999
    assert float(dt.detach().max()) <= DT_MAX * 1.001
    assert all(bool((p == 1).all()) for p in (mixer.B_bias, mixer.C_bias, mixer.D, mixer.B_norm.weight))


def test_the_mixer_equals_its_definition_in_outputs_and_parameter_gradients():
    torch.manual_seed(2)
    config = small_config()
    mixer = Mamba3(config).double()
    x = torch.randn(2, 37, config.model_dim, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 37, config.model_dim, dtype=torch.float64)
    leaves = [x, *mixer.parameters()]
    y = mixer(x)
    got = torch.autograd.grad((y * weight).sum(), leaves)
    inputs, gate = mixer.scan_inputs(x)
    want_y, _ = sequential_scan(inputs, mixer.zero_state(2, x))
    want_y = mixer.out_proj((want_y * F.silu(gate)).flatten(2))
    want = torch.autograd.grad((want_y * weight).sum(), leaves)
    assert (y - want_y).abs().max() < BOUND
    for a, b in zip(got, want, strict=True):
        assert (a - b).norm() <= BOUND * max(1.0, float(b.norm()))


def test_the_clamp_on_the_decay_stops_its_gradient():
    torch.manual_seed(3)
    config = small_config()
    mixer = Mamba3(config).double()
    rows = mixer.split["dd_A"]
    with torch.no_grad():
        mixer.in_proj.weight[rows].mul_(0).add_(-100.0)  # softplus under the floor wherever the input's sum is positive
    x = torch.rand(1, 9, config.model_dim, dtype=torch.float64)
    y = mixer(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), [mixer.in_proj.weight])
    assert gradient[rows].abs().max() == 0
    assert gradient[mixer.split["x"]].abs().max() > 0
