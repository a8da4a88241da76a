"""Muon against a float64 computation on singular values, which the Newton–Schulz products must only imitate."""

import pytest
import torch

from submission.train.muon import COEFFICIENTS, Muon, orthogonalise


def by_singular_values(g: torch.Tensor, steps: int, row_normalise: bool) -> torch.Tensor:
    """The odd polynomial applied to the singular values, in float64."""
    x = g.double()
    if row_normalise:
        x = x / x.norm(dim=-1, keepdim=True)
    u, s, vh = torch.linalg.svd(x / x.norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vh


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 9)])
@pytest.mark.parametrize("row_normalise", [False, True])
def test_orthogonalised_batches_are_the_polynomial_of_each_matrix(shape, row_normalise):
    batch = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    got = orthogonalise(batch, 5, row_normalise)
    for one, matrix in zip(got, batch, strict=True):
        assert (one - by_singular_values(matrix, 5, row_normalise)).abs().max() < 2e-4
        assert 0.6 < float(torch.linalg.matrix_norm(one, ord=2)) < 1.3


def test_steps_are_nesterov_momentum_decoupled_decay_and_a_rate_by_shape():
    generator = torch.Generator().manual_seed(3)
    shapes = [(6, 4), (4, 6), (6, 4)]
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    want = [w.detach().double() for w in weights]
    buffers = [torch.zeros_like(w) for w in want]
    muon = Muon(weights, lr=0.1, weight_decay=0.5, steps=5, row_normalise=True)
    for scale, momentum in ((1.0, 0.0), (0.5, 0.9), (0.25, 0.9)):
        for index, weight in enumerate(weights):
            g = torch.randn(weight.shape, generator=generator)
            weight.grad = g
            buffers[index] = momentum * buffers[index] + (1 - momentum) * g.double()
            nesterov = momentum * buffers[index] + (1 - momentum) * g.double()
            rows, columns = g.shape
            rate = 0.1 * scale
            update = by_singular_values(nesterov, 5, True) * max(1.0, rows / columns) ** 0.5
            want[index] = want[index] * (1 - rate * 0.5) - rate * update
        muon.step(scale, momentum)
    for weight, one in zip(weights, want, strict=True):
        assert (weight.detach() - one).abs().max() < 2e-4


def test_reset_forgets_the_momentum():
    weight = torch.nn.Parameter(torch.zeros(4, 4))
    muon = Muon([weight], lr=0.1, weight_decay=0.0, steps=5, row_normalise=False)
    first = torch.eye(4)
    weight.grad = first
    muon.step(1.0, 0.5)
    moved = weight.detach().clone()
    muon.reset()
    with torch.no_grad():
        weight.zero_()
    weight.grad = first
    muon.step(1.0, 0.5)
    assert torch.equal(weight, moved)


def test_a_matrix_outside_the_loss_is_told():
    muon = Muon([torch.nn.Parameter(torch.zeros(4, 4))], lr=0.1, weight_decay=0.0, steps=5, row_normalise=False)
    with pytest.raises(ValueError, match="not part of the loss"):
        muon.step(1.0, 0.5)
