"""What an adapter undoes: weights that are not finite, on every device that evaluates."""

import pytest
import small_models
import torch

from submission.eval.adapt import Adapter

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", BAD)
def test_one_number_that_is_not_finite_is_seen_wherever_it_stands(bad: float, device: str) -> None:
    config = small_models.small_config()
    adapter = Adapter(small_models.lively_model(config).float().to(device), config)
    before = adapter.snapshot()
    state = adapter.state()
    good = torch.tensor(True, device=device)
    assert bool(adapter.restore_unless(good, before))
    for name in ("weight/embedding.weight", "momentum/blocks.0.mix"):
        state[name].view(-1)[-1] = bad
        assert not bool(adapter.restore_unless(good, before))
        assert all(torch.equal(now, then) for now, then in zip(adapter.state().values(), before, strict=True))
        state[name].view(-1)[0] = bad
        assert not bool(adapter.restore_unless(good, adapter.snapshot())), "back to the packed ones"
        assert all(torch.equal(now, then) for now, then in zip(adapter.state().values(), before, strict=True))
