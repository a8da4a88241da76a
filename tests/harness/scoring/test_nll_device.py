"""The GPU's formula against the float64 definition, on whatever device there is."""

import torch

from harness.scoring.nll import token_nats
from harness.scoring.nll_device import row_nats


def test_the_fused_formula_agrees_with_float64() -> None:
    generator = torch.Generator().manual_seed(5)
    for dtype, scale in ((torch.float16, 8.0), (torch.bfloat16, 30.0), (torch.float32, 1.0)):
        logits = (scale * torch.randn(64, 512, generator=generator)).to(dtype)
        targets = torch.randint(512, (64,), generator=generator)
        nats, bad = row_nats(logits, targets)
        assert not bad.any()
        torch.testing.assert_close(nats, token_nats(logits, targets), rtol=0, atol=1e-5)


def test_one_bad_logit_marks_its_row_wherever_it_stands() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        logits = torch.zeros(5, 9)
        logits[3, 7] = value
        _, bad = row_nats(logits, torch.zeros(5, dtype=torch.int64))
        assert bad.tolist() == [False, False, False, True, False]
