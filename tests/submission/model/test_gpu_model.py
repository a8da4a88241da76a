"""The reference model on a GPU: causal as a whole, resets through compiled kernels, loss, step and warm-up.

References are computed on the same device by the chunked scan, in float64 where a bound is about rounding.
"""

import dataclasses

import pytest
import torch
from interpreted_kernels import differences
from torch.nn import functional as F

from submission.config import load_config
from submission.model.hybrid import build_model
from submission.preflight import preflight
from submission.train.loss import softcap_loss
from submission.train.speed import compiled_graphs
from submission.train.trainer import Trainer

DEVICE = torch.device("cuda")
ROUNDING = 1e-2  # norm-relative: bf16 operands and outputs
pytestmark = pytest.mark.gpu


def reference(**changes: object):
    return dataclasses.replace(load_config({"RECIPE": "pr1890"}, "non_record_16mb"), **changes)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).detach())


def lively(config):
    """Every weight matters: matrices that start at zero are random here."""
    torch.manual_seed(1)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.add_(0.03 * torch.randn_like(parameter))
        model.embedding.weight.normal_(std=0.5)
    return model.to(DEVICE)


@pytest.mark.parametrize("compiled", [False, True])
def test_one_future_token_changes_nothing_before_it(compiled):
    model = lively(reference())
    run = torch.compile(model.stream, fullgraph=True, dynamic=False) if compiled else model.stream
    tokens = torch.randint(8192, (2, 300), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    with torch.no_grad():
        before = run(tokens).float()
        for t in (1, 63, 64, 65, 131, 299):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % 8192
            after = run(changed).float()
            assert relative(after[:, :t], before[:, :t]) < 1e-3, t
            assert relative(after[:, t], before[:, t]) > 1e-2, t


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("length", [64, 200, 1000])
def test_resets_through_the_kernels_equal_the_float64_scan(compiled, length):
    sizes = (2, length, 4, 64, 64, 16)
    output, *gradients = differences(*sizes, resets=True, device=DEVICE, dtype=torch.bfloat16, compiled=compiled)
    assert output < ROUNDING
    assert max(gradients) < 3 * ROUNDING


@pytest.mark.parametrize("vocab", [1000, 8192])
def test_the_fused_loss_and_its_gradients(vocab):
    g = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(n, 512, generator=g).bfloat16() for n in (700, vocab))
    targets = torch.randint(vocab, (700,), generator=g).to(DEVICE)
    results = []
    for dtype in (torch.float64, torch.bfloat16):
        a, b = (x.to(DEVICE, dtype).requires_grad_() for x in (hidden, weight))
        if dtype == torch.float64:
            loss = F.cross_entropy(30 * torch.tanh(a @ b.T / 30), targets, reduction="sum")
        else:
            loss = softcap_loss(a, b, targets, 30.0)
        results.append((loss, torch.autograd.grad(loss, [a, b])))
    (want, want_gradients), (got, gradients) = results
    assert relative(got, want) < 1e-3
    assert all(relative(x, y) < ROUNDING for x, y in zip(gradients, want_gradients, strict=True))


def test_compiled_steps_follow_the_plain_ones_and_nothing_compiles_after_the_warm_up():
    config = reference(
        train_seq_len=256, train_batch_tokens=4 * 256, train_micro_batch=2, num_layers=4, num_attn_layers=1,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(4)
    batches = [torch.randint(8192, (4, 257), generator=generator) for _ in range(6)]
    plain = Trainer(dataclasses.replace(config, mamba3_backend="chunked"), torch.device("cpu"), 1, 1)
    want = [float(plain.step(batch, 1.0, 0.9, at > 3)) for at, batch in enumerate(batches)]
    trainer = Trainer(config, DEVICE, 1, 1)
    trainer.warm_up(2)
    graphs = compiled_graphs()
    got = [float(trainer.step(batch, 1.0, 0.9, at > 3)) for at, batch in enumerate(batches)]
    trainer.held_out_loss(batches[0][:2])
    assert compiled_graphs() == graphs
    assert got[:2] == pytest.approx(want[:2], rel=5e-3)
    assert got == pytest.approx(want, rel=5e-2)


def test_this_machine_passes_the_checks_of_an_official_track():
    preflight(reference(), DEVICE, "non_record_16mb", 1)
