"""Numbers on their way to the host."""

import pytest
import torch

from submission.train.readback import Readback

A_WHILE = 2_000_000_000  # cycles of a GPU: about a second


def test_numbers_keep_their_names_and_the_values_they_had():
    loss = torch.tensor(1.5)
    numbers = Readback({"loss": loss, "norm": torch.tensor(0.25)})
    loss.zero_()
    assert numbers.read() == {"loss": 1.5, "norm": 0.25}


@pytest.mark.gpu
def test_reading_does_not_wait_for_what_was_queued_later():
    numbers = Readback({"loss": torch.tensor(1.5, device="cuda")})
    torch.cuda._sleep(A_WHILE)
    assert numbers.read() == {"loss": 1.5}
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
