"""Late quantisation: forward and backward see the packer's values, the update falls on the masters."""

import pytest
import torch
from small_models import lively_model, small_config

from submission.package.grid import is_quantised, quantise, row_bits, row_scales
from submission.train.qat import QuantisedWeights

CONFIG = small_config(quant_bits=6, quant_bits_embed=8, quant_bits_ssm_dynamics=8)


def packed_values(name: str, weight: torch.Tensor) -> torch.Tensor:
    """What the packer's plain rounding stores and the reader gives back."""
    bits = row_bits(name, weight.shape, CONFIG)
    scales = row_scales(weight, bits)
    return quantise(weight, scales, bits).float() * scales[:, None]


def test_inside_matrices_hold_what_the_packer_would_store_and_the_rest_stays():
    model = lively_model(CONFIG).float()
    masters = {name: p.detach().clone() for name, p in model.named_parameters()}
    with QuantisedWeights(model, CONFIG).in_place(True):
        for name, p in model.named_parameters():
            quantised = is_quantised(name, p.shape)
            assert torch.equal(p, packed_values(name, masters[name]) if quantised else masters[name]), name
            assert torch.equal(p, masters[name]) != quantised, name
    assert all(torch.equal(p, masters[name]) for name, p in model.named_parameters())


def test_the_dynamics_rows_are_finer_than_their_neighbours():
    model = lively_model(CONFIG).float()
    mixer = model.blocks[0].mixer
    master = mixer.in_proj.weight.detach().clone()
    with QuantisedWeights(model, CONFIG).in_place(True):
        error = (mixer.in_proj.weight.detach() - master).abs().amax(1)
    half_step = master.abs().amax(1).clamp(min=1) / 127 / 2 * 1.001  # of 8 bits; float16 scales
    dynamics = torch.cat([torch.arange(rows.start, rows.stop) for rows in map(mixer.split.get, ("dd_dt", "dd_A"))])
    assert (error[dynamics] <= half_step[dynamics]).all()
    assert (error[mixer.split["x"]] > half_step[mixer.split["x"]]).all()


def test_the_gradient_is_that_of_the_quantised_weights_and_moves_the_masters():
    model = lively_model(CONFIG).float()
    tokens = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(1))
    with QuantisedWeights(model, CONFIG).in_place(True):
        values = {name: p.detach().clone() for name, p in model.named_parameters()}
        model(tokens).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    other = lively_model(CONFIG).float()
    other.load_state_dict(values)
    other.zero_grad()
    other(tokens).square().mean().backward()
    for name, p in other.named_parameters():
        assert torch.equal(p.grad, gradients[name]), name


def test_masters_come_back_when_the_step_fails():
    model = lively_model(CONFIG).float()
    masters = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(MemoryError), QuantisedWeights(model, CONFIG).in_place(True):
        raise MemoryError
    assert all(torch.equal(p, master) for p, master in zip(model.parameters(), masters, strict=True))
