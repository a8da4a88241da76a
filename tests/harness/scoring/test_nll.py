"""The referee's NLL against an independent float64 reference, and its refusals."""

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch._dynamo.utils import counters

from harness.scoring import nll
from harness.scoring.nll import NotFinite, row_nats, token_nats


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 70), vocabulary=st.integers(1, 3000), scale=st.sampled_from([0.0, 1.0, 30.0, 900.0]))
def test_nats_equal_a_float64_reference(rows, vocabulary, scale):
    random = np.random.default_rng(rows * 7919 + vocabulary)
    logits = (random.standard_normal((rows, vocabulary)) * scale).astype(np.float32)
    targets = random.integers(0, vocabulary, rows)
    wide = logits.astype(np.float64)
    wanted = logsumexp(wide, axis=1) - wide[np.arange(rows), targets]
    found = token_nats(torch.from_numpy(logits), torch.from_numpy(targets)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-12)


@pytest.mark.rule("C2-NORMALISED")
@pytest.mark.parametrize("formula", [token_nats, lambda *row: row_nats(*row)[0]], ids=["host", "device"])
@pytest.mark.parametrize("constant", [0.0, 6e4, 1e17, -1e17, 3e38], ids=str)
def test_a_constant_over_a_whole_row_buys_no_bits(formula, constant):
    logits = torch.full((3, 1024), constant)
    torch.testing.assert_close(formula(logits, torch.tensor([0, 5, 1023])), torch.full((3,), math.log(1024)).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_each_logits_type_is_widened_before_the_softmax(dtype):
    logits = torch.randn(300, 1024, generator=torch.Generator().manual_seed(1)).to(dtype)
    targets = torch.arange(300) % 1024
    wanted = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    torch.testing.assert_close(token_nats(logits, targets), wanted, rtol=0, atol=1e-12)


@pytest.mark.rule("C2-NORMALISED")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("column", [0, 5], ids=["at_the_target", "elsewhere"])
def test_a_logit_that_is_not_finite_is_refused_with_its_row(value, column):
    logits, targets = torch.zeros(500, 8), torch.zeros(500, dtype=torch.int64)
    logits[321, column] = value
    with pytest.raises(NotFinite) as refused:
        token_nats(logits, targets)
    assert refused.value.row == 321
    assert row_nats(logits, targets)[1].nonzero().flatten().tolist() == [321]


@pytest.mark.gpu
def test_on_a_gpu_a_shorter_slab_is_scored_without_compiling_anew():
    random, graphs = torch.Generator("cuda").manual_seed(3), []
    for rows in (4096, 777, 2):
        logits = torch.randn(rows, 8192, generator=random, device="cuda", dtype=torch.float16) * 5
        targets = torch.arange(rows)
        found = token_nats(logits, targets)
        wanted = -torch.log_softmax(logits.double(), 1).gather(1, targets.cuda()[:, None])[:, 0].cpu()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
        graphs.append(int(counters["stats"]["unique_graphs"]))
    assert len(set(graphs)) == 1


def test_the_input_is_left_as_it_was():
    logits = torch.randn(50, 64)
    before = logits.clone()
    token_nats(logits, torch.zeros(50, dtype=torch.int64))
    assert torch.equal(logits, before)


def test_compiled_code_of_the_referee_is_loaded_from_the_user_s_own_folder(tmp_path, monkeypatch):
    """Another user of the machine can make /tmp/torchinductor_NAME first, and the compiler loads what lies there."""
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    seen = []
    monkeypatch.setattr(torch, "compile", lambda plain, **_: seen.append(dict(os.environ)) or plain)
    assert nll._kernel.__wrapped__() is row_nats
    assert seen[0]["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
