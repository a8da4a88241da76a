"""DOCUMENT_RESET: nothing before a document's first token is seen, however the sequence is read."""

import pytest
import torch
from small_models import lively_model, small_config

from submission.config import BOS
from submission.model.hybrid import Hybrid

BOUND = 1e-9
STARTS = (0, 5, 6, 19)


def documents() -> torch.Tensor:
    """(2, 30) tokens; in the first row documents start at STARTS, in the second at 11 only."""
    tokens = torch.randint(2, 64, (2, 30), generator=torch.Generator().manual_seed(5))
    tokens[0, list(STARTS)] = BOS
    tokens[1, 11] = BOS
    return tokens


@pytest.fixture(scope="module")
def model() -> Hybrid:
    return lively_model(small_config(document_reset=True, qk_offset=True))


@torch.no_grad()
def test_a_document_is_read_as_if_it_stood_alone(model: Hybrid) -> None:
    tokens = documents()
    whole = model(tokens)
    for start, end in zip(STARTS, (*STARTS[1:], 30), strict=True):
        assert (whole[0, start:end] - model(tokens[:1, start:end])[0]).abs().max() < BOUND
    assert (whole[1, 11:] - model(tokens[1:, 11:])[0]).abs().max() < BOUND


@torch.no_grad()
def test_without_it_the_past_is_seen(model: Hybrid) -> None:
    other = lively_model(small_config(qk_offset=True))
    tokens = documents()
    assert (other(tokens)[0, 6:19] - other(tokens[:1, 6:19])[0]).abs().max() > 1e-3
    assert (other(tokens)[1, :11] - model(tokens)[1, :11]).abs().max() < BOUND, "the same model otherwise"
