"""The slab-wise loss against the library's cross-entropy, in float64."""

import torch

from submission.eval.head import HeadLoss, reference_loss, slab_loss


def test_loss_and_gradients_equal_the_definition() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(17, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(17, (23,), generator=generator)
    targets[[2, 5, 22]] = -100
    wanted = reference_loss(hidden, embedding, targets, 3.0)
    found = HeadLoss.apply(hidden, embedding, targets, 3.0, 5, slab_loss)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for have, want in zip(
        torch.autograd.grad(2 * found, [hidden, embedding]),
        torch.autograd.grad(2 * wanted, [hidden, embedding]),
        strict=True,
    ):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-12)
