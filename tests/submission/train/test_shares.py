"""Threads that share a batch give the loss and the gradients of the whole, and the same bits each time."""

import pytest
import torch
from small_models import lively_model, small_config

from submission.train.shares import Shares
from submission.train.trainer import Trainer

CONFIG = small_config(train_batch_tokens=7 * 32, train_seq_len=32, train_micro_batch=4)


def mean_loss(model):
    def loss(windows):
        logits = model(windows[:, :-1]).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten())

    return loss


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_add_up_to_the_whole_in_float64(count):
    model = lively_model(CONFIG)
    windows = torch.randint(64, (5, 33), generator=torch.Generator().manual_seed(1))
    parameters = list(model.parameters())
    loss = mean_loss(model)
    want = torch.autograd.grad(loss(windows) * 0.5, parameters)
    shares = Shares(loss, parameters, count)
    got = shares.accumulate(windows, 0.5) + shares.accumulate(windows, 0.25)
    assert float(got) == pytest.approx(float(loss(windows).detach()) * 0.75, rel=1e-12)
    for parameter, gradient in zip(parameters, want, strict=True):
        assert (parameter.grad - 1.5 * gradient).norm() <= 1e-10 * max(1.0, float(gradient.norm()))


def steps(threads: int) -> tuple[list[float], list[torch.Tensor]]:
    trainer = Trainer(CONFIG, torch.device("cpu"), 1, 1, threads)
    generator = torch.Generator().manual_seed(2)
    losses = [float(trainer.step(torch.randint(64, (7, 33), generator=generator), 1.0, 0.9, at > 3)) for at in range(6)]
    return losses, list(trainer.averaged_weights().values())


def test_threads_train_as_one_does_and_repeat_themselves_bit_by_bit():
    one, (two, weights), (again, weights_again) = steps(1)[0], steps(2), steps(2)
    assert two == pytest.approx(one, rel=2e-4)
    assert two == again
    assert all(torch.equal(a, b) for a, b in zip(weights, weights_again, strict=True))


def test_an_error_in_a_thread_comes_out():
    def loss(windows):
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        Shares(loss, [torch.nn.Parameter(torch.ones(1))], 2).accumulate(torch.zeros(2, 3), 1.0)
