"""The predictor under the referee's protocol: modes, adaptation, calibration, odd sizes and settings."""

import dataclasses
import math

import lab
import pytest
import small_models
import torch
from predictors import STREAM, builder, config, predictor, rows

from submission.config import ConfigError, load_config

MODES = [
    {"eval_mode": "windows"},
    {"eval_mode": "overlap", "ttt_batch_windows": 3},
    {"eval_pass_windows": 3},
    {"ttt_optimiser": "muon", "ttt_lr": 0.005},
    {"ttt_epochs": 0, "eval_temp": 0.9},
    {"document_reset": True, "eval_mode": "overlap"},
    {"eval_cache_orders": "1,2,3"},
    {"eval_cache_orders": "1,2", "eval_cache_slots": 5, "ttt_epochs": 0},
]


@pytest.mark.parametrize("changes", MODES, ids=[",".join(map(str, m.values())) for m in MODES])
def test_every_mode_passes_the_audits(changes: dict[str, object]) -> None:
    outcome = lab.referee(builder(config(**changes)), STREAM, 64, chunks=3, positions=12)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)
    assert outcome.targets == 700
    assert math.isfinite(outcome.bpb)


def test_adaptation_lowers_the_score() -> None:
    still = lab.referee(builder(config(ttt_epochs=0)), STREAM, 64, chunks=1, positions=1)
    moving = lab.referee(builder(config(ttt_epochs=2)), STREAM, 64, chunks=1, positions=1)
    assert moving.bpb < still.bpb - 0.05


def test_the_kept_scoring_pass_changes_nothing() -> None:
    inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
    kept, again = predictor(config()), predictor(config())
    for one in (kept, again):
        rows(one, inputs)
    again.load_state()  # forgets the pass
    for one in (kept, again):
        one.adapt(inputs, targets)
    torch.testing.assert_close(kept.state(), again.state(), rtol=0, atol=1e-6)


def test_two_full_batch_epochs_are_the_seeds_method() -> None:
    settings = config(ttt_lr=0.02)
    one = predictor(settings)
    model = small_models.lively_model(settings).float()
    parameters = list(model.parameters())
    optimiser = torch.optim.SGD(parameters, lr=0.02, momentum=0.9)
    for _ in range(2):
        inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
        wanted = model(inputs.view(4, 32)).flatten(0, 1)
        torch.testing.assert_close(rows(one, inputs), wanted.detach(), rtol=0, atol=2e-4)
        one.adapt(inputs, targets)
        for _ in range(2):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs.view(4, 32)).flatten(0, 1), targets).backward()
            optimiser.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(one.state()[f"weight/{name}"], parameter.detach(), rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("mode", ["windows", "overlap"])
def test_a_step_larger_than_the_chunk_is_the_chunk(mode: str) -> None:
    whole, larger = (predictor(config(eval_mode=mode, ttt_batch_windows=batch)) for batch in (0, 100))
    inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
    tokens = 0

    def count(_module: object, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal tokens
        tokens += given[0].numel()

    read = []
    for one in (whole, larger):
        one.model.embedding.register_forward_pre_hook(count)
        tokens = 0
        rows(one, inputs)
        one.adapt(inputs, targets)
        read.append(tokens)
    assert read[0] == read[1]
    torch.testing.assert_close(whole.state(), larger.state(), rtol=0, atol=0)


def test_temperature_divides_the_final_logits_of_weights_that_stay() -> None:
    """As in the source of pr1890: with test-time training it does nothing."""
    inputs = torch.randint(64, (40,))
    for epochs, factor in ((0, 0.5), (1, 1.0)):
        plain, cool = (predictor(config(ttt_epochs=epochs, eval_temp=temp)) for temp in (1.0, 0.5))
        torch.testing.assert_close(rows(cool, inputs), rows(plain, inputs) / factor)


@pytest.mark.parametrize(
    "changes",
    [{}, {"eval_temp": 0.8, "ttt_epochs": 0}, {"eval_cache_orders": "1,2"}],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_logits_written_into_the_referees_memory_are_those_of_a_tensor_of_ones_own(changes: dict[str, object]) -> None:
    one, other = predictor(config(**changes)), predictor(config(**changes))
    one.slab_rows = other.slab_rows = 48
    buffer = torch.full((48, 64), 7.0)
    one.bind_logits(buffer)
    tokens = torch.from_numpy(STREAM.tokens.astype("int64"))
    for start in (0, 128):
        inputs, targets = tokens[start : start + 128], tokens[start + 1 : start + 129]
        with torch.no_grad():
            for mine, its in zip(one.score(inputs), other.score(inputs), strict=True):
                assert mine.data_ptr() == buffer.data_ptr()
                assert torch.equal(mine, its)
            one.adapt(inputs, targets)
            other.adapt(inputs, targets)


@pytest.mark.parametrize(
    ("targets", "changes"),
    [
        (1, {"eval_mode": "windows"}), (33, {"eval_mode": "windows"}),
        (1, {"eval_mode": "overlap"}), (33, {"eval_mode": "overlap"}),
        (300, {"eval_mode": "overlap", "document_reset": True}),
    ],
)  # fmt: skip
def test_odd_sizes_and_one_long_document_are_scored_to_the_last_token(targets: int, changes: dict[str, object]) -> None:
    tokens = STREAM.tokens.clip(min=2)  # nowhere does a document begin
    stream = dataclasses.replace(STREAM, tokens=tokens, targets=targets)
    outcome = lab.referee(builder(config(**changes)), stream, 64, chunks=2, positions=4)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)
    assert outcome.targets == targets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TTT_EPOCHS", "-1"), ("TTT_EPOCHS", "1000000"), ("TTT_EPOCHS", "two"), ("EVAL_MODE", "best"),
        ("EVAL_TEMP", "0"), ("EVAL_OVERLAP", "-1"), ("TTT_LR", "nan"), ("TTT_CHUNK_WINDOWS", "0"),
    ],
)  # fmt: skip
def test_absurd_values_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_config({name: value}, "smoke")


def test_smaller_forward_passes_take_the_same_step() -> None:
    inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
    whole, parts = predictor(config()), predictor(config(eval_pass_windows=3))
    for one in (whole, parts):
        rows(one, inputs)
        one.adapt(inputs, targets)
    torch.testing.assert_close(whole.state(), parts.state(), rtol=0, atol=1e-5)
