"""The slab-wise loss against the library's cross-entropy over all logits at once."""

import pytest
import torch
from torch.nn import functional as F

from submission.train import loss as loss_module
from submission.train.loss import IGNORED, softcap_loss

CAP = 3.0


def data(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(17, 8, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(17, (23,), generator=generator)
    targets[[2, 5, 22]] = IGNORED
    return hidden, weight, targets


def definition(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = CAP * torch.tanh(hidden.double() @ weight.T / CAP)
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_loss_and_gradients_equal_the_definition_in_slabs_of_any_size(rows, monkeypatch):
    monkeypatch.setattr(loss_module, "SLAB_ELEMENTS", {"cpu": rows * 17})
    hidden, weight, targets = data(torch.float64)
    found, wanted = softcap_loss(hidden, weight, targets, CAP), definition(hidden, weight, targets)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    gradients = (torch.autograd.grad(2 * value, [hidden, weight]) for value in (found, wanted))
    for have, want in zip(*gradients, strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-12)


def test_narrow_hidden_states_have_a_wide_loss_and_a_weight_gradient_of_the_weights_type():
    hidden, weight, targets = data(torch.bfloat16)
    found, wanted = softcap_loss(hidden, weight, targets, CAP), definition(hidden, weight, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=2e-2, atol=0)
    (have,), (want,) = (torch.autograd.grad(value, [weight]) for value in (found, wanted))
    assert have.dtype == torch.float64
    assert float((have - want).norm() / want.norm()) < 3e-2


def test_a_slab_of_ignored_targets_counts_nothing():
    hidden, weight, targets = data(torch.float64)
    loss = softcap_loss(hidden, weight, torch.full_like(targets, IGNORED), CAP)
    assert float(loss.detach()) == 0.0
    assert all(not bool(g.any()) for g in torch.autograd.grad(loss, [hidden, weight]))
