"""What is allowed for rounding is bounded, whatever a logit is; C2 says what was computed in which precision."""

import pytest
import torch

from harness.phases.verdicts import score_findings
from harness.record.predicate import Score
from harness.scoring.audit import rounding_nats
from harness.scoring.nll import PRECISION, token_nats
from harness.scoring.nll_device import PRECISION as ON_DEVICE
from harness.scoring.nll_device import row_nats


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("huge", [-1e30, 1e30, float("-inf"), float("nan"), 31.0])
@pytest.mark.rule("C1-CAUSAL")
def test_no_logit_makes_the_allowance_for_rounding_large(dtype: torch.dtype, huge: float):
    row = torch.tensor([1.0, huge, -3.0]).to(dtype)
    assert 0 <= rounding_nats(row) <= 4 * 32 * torch.finfo(dtype).eps


def test_rounding_of_common_logits_is_allowed_for():
    assert rounding_nats(torch.tensor([8.0, -2.0])) == 4 * 8 * torch.finfo(torch.float32).eps


@pytest.mark.rule("C2-NORMALISED")
def test_c2_states_the_precision_of_the_path_that_ran():
    """The sentence of a GPU's path speaks of float32 where that path differs from float64 by so much."""
    logits, targets = torch.randn(64, 500, generator=torch.Generator().manual_seed(0)) * 9, torch.arange(64)
    apart = (row_nats(logits, targets)[0] - token_nats(logits, targets)).abs().max().item()
    assert 1e-12 < apart < 1e-5
    score = Score("final", 1.0, 1, 1, 1.0, True, 1.0)
    for precision in (PRECISION, ON_DEVICE):
        (found,) = [f for f in score_findings(score, precision, val_targets=1, val_bytes=1) if f.rule.startswith("C2")]
        assert precision in found.message
    assert ("float32" in PRECISION, "float32" in ON_DEVICE) == (False, True)
