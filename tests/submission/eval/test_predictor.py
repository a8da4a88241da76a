"""The predictor under the referee's protocol: modes, adaptation, calibration, odd sizes and settings."""

import dataclasses
import math

import lab
import pytest
import small_models
import torch
from predictors import STREAM, builder, config, predictor, rows

from submission.config import ConfigError, load_config
from submission.eval.predictor import UNDONE

MODES = [
    {"eval_mode": "windows"},
    {"eval_mode": "overlap"},
    {"eval_mode": "sliding"},
    {"eval_mode": "carry"},
    {"eval_mode": "carry", "eval_carry": "recompute"},
    {"eval_mode": "carry", "eval_carry": "decay"},
    {"ttt_batch_windows": 3, "ttt_lr_schedule": "cosine"},
    {"ttt_ema": 0.5, "eval_mode": "overlap"},
    {"ttt_lora_rank": 2},
    {"eval_pass_windows": 3},
    {"eval_mode": "carry", "eval_pass_windows": 3},
    {"ttt_optimiser": "muon", "ttt_lr": 0.005},
    {"eval_bias_lr": 1.0, "eval_temp_lr": 0.3, "eval_temp": 0.9},
    {"ttt_freeze": "embedding,dynamics", "ttt_small_lr": 3.0, "ttt_grad_clip": 0.5, "ttt_momentum_reset": True},
    {"ttt_from_block": 1, "eval_mode": "overlap"},
    {"ttt_epochs": 0, "eval_mode": "carry"},
    {"document_reset": True, "eval_mode": "overlap"},
    {"document_reset": True, "eval_mode": "carry"},
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
    for name, tensor in kept.state().items():
        torch.testing.assert_close(tensor, again.state()[name], rtol=0, atol=1e-6, msg=name)


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


def test_late_blocks_learn_as_if_all_did_and_early_ones_stay() -> None:
    inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
    whole, late = predictor(config(ttt_epochs=1)), predictor(config(ttt_epochs=1, ttt_from_block=2))
    before = {name: p.detach().clone() for name, p in late.model.named_parameters()}
    for one in (whole, late):
        rows(one, inputs)
        one.adapt(inputs, targets)
    early = ("blocks.0.", "blocks.1.")
    for name, parameter in late.model.named_parameters():
        if name.startswith(early):
            assert torch.equal(parameter, before[name]), name
            assert f"weight/{name}" not in late.state()
        elif name != "embedding.weight":  # its input side counts in one and not in the other
            wanted = whole.state()[f"weight/{name}"]
            torch.testing.assert_close(late.state()[f"weight/{name}"], wanted, rtol=0, atol=1e-6, msg=name)
    moved = (late.state()["weight/embedding.weight"] - before["embedding.weight"]).abs().amax()
    assert moved > 0


@pytest.mark.parametrize("from_block", [3, 4, 6])
def test_no_gradient_goes_further_back_than_the_first_block_that_adapts(from_block: int) -> None:
    """Seven blocks, skip weights before blocks 3, 4 and 5: those before the first that adapts must not lead further."""
    one = predictor(config(num_layers=7, num_attn_layers=2, ttt_from_block=from_block))
    inputs = torch.randint(64, (128,))
    skips = one.model.skip_weights.detach().clone()
    reached = [False] * 7
    for index, block in enumerate(one.model.blocks):

        def watch(_module: object, _inputs: object, outputs: tuple[torch.Tensor, object], index: int = index) -> None:
            reached[index] = outputs[0].requires_grad

        block.register_forward_hook(watch)
    rows(one, inputs)
    assert reached == [index >= from_block for index in range(7)]
    one.adapt(inputs, inputs)
    moved = (one.model.skip_weights.detach() - skips).abs().amax(1)
    assert [bool(change) for change in moved] == [3 + row >= from_block for row in range(3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"ttt_freeze": "embedding,mamba,dynamics,attention,mlp,small"},
        {"ttt_freeze": "embedding,mamba,dynamics,attention,mlp", "ttt_small_lr": 0.0},
    ],
)
def test_without_a_weight_that_moves_a_run_is_frozen(changes: dict[str, object]) -> None:
    one, frozen = predictor(config(**changes)), predictor(config(ttt_epochs=0))
    assert one.state().keys() == frozen.state().keys()
    for _ in range(2):
        inputs = torch.randint(64, (128,))
        assert torch.equal(rows(one, inputs), rows(frozen, inputs))
        for each in (one, frozen):
            each.adapt(inputs, inputs)


def test_a_single_block_has_no_skips_and_adapts() -> None:
    one = predictor(config(num_layers=1, num_attn_layers=0))
    inputs = torch.randint(64, (128,))
    before = rows(one, inputs)
    one.adapt(inputs, inputs)
    assert int(one.state()["control"][UNDONE]) == 0
    assert not torch.equal(rows(one, inputs), before)


@pytest.mark.parametrize("mode", ["windows", "sliding"])
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
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, larger.state()[name]), name


def test_carry_reads_the_stream_as_one_sequence() -> None:
    settings = config(eval_mode="carry", eval_overlap=31, ttt_epochs=0, num_attn_layers=0)
    one = predictor(settings)
    inputs = torch.randint(64, (256,))
    first = rows(one, inputs[:128])
    one.adapt(inputs[:128], inputs[1:129])
    found = torch.cat([first, rows(one, inputs[128:])])
    start = torch.full((1, 31), 1)
    wanted = small_models.lively_model(settings).float()(torch.cat((start, inputs[None]), 1))[0, 31:]
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=2e-3)


def test_carried_keys_stand_where_they_stood() -> None:
    """With attention: a window after carried keys equals one forward pass over those keys' tokens and the window."""
    settings = config(eval_mode="carry", eval_overlap=31, ttt_epochs=0, num_layers=2, num_attn_layers=1)
    one = predictor(settings)
    inputs = torch.randint(64, (64,))
    found = rows(one, inputs)[:32]
    wanted = small_models.lively_model(settings).float()(torch.cat((torch.full((1, 31), 1), inputs[None, :32]), 1))
    torch.testing.assert_close(found, wanted[0, 31:].detach(), rtol=0, atol=1e-3)


def test_temperature_divides_the_final_logits() -> None:
    inputs = torch.randint(64, (40,))
    plain, cool = predictor(config()), predictor(config(eval_temp=0.5))
    torch.testing.assert_close(rows(cool, inputs), rows(plain, inputs) / 0.5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"eval_temp": 0.8}, {"eval_bias_lr": 1.0, "eval_temp_lr": 0.1}, {"eval_cache_orders": "1,2"}],
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


@pytest.mark.parametrize("targets", [1, 31, 33, 127, 129])
@pytest.mark.parametrize("mode", ["windows", "sliding", "carry"])
def test_odd_sizes_are_scored_to_the_last_token(targets: int, mode: str) -> None:
    stream = dataclasses.replace(STREAM, targets=targets)
    outcome = lab.referee(builder(config(eval_mode=mode)), stream, 64, chunks=2, positions=4)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)
    assert outcome.targets == targets


def test_one_document_longer_than_everything_is_scored_to_its_end() -> None:
    tokens = torch.randint(2, 64, (301,), generator=torch.Generator().manual_seed(6)).numpy()
    stream = dataclasses.replace(STREAM, tokens=tokens, target_bytes=STREAM.target_bytes[:300], targets=300)
    outcome = lab.referee(builder(config(document_reset=True, eval_mode="carry")), stream, 64, chunks=2, positions=4)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)
    assert outcome.targets == 300


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TTT_EPOCHS", "-1"), ("TTT_EPOCHS", "1000000"), ("TTT_EPOCHS", "two"), ("EVAL_MODE", "best"),
        ("EVAL_TEMP", "0"),
        ("TTT_FREEZE", "everything"), ("EVAL_OVERLAP", "256"), ("EVAL_STRIDE", "0"), ("EVAL_STRIDE", "257"),
        ("TTT_LR", "nan"), ("TTT_EPOCH", "2"), ("TTT_CHUNK_WINDOWS", "0"),
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
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, parts.state()[name], rtol=0, atol=1e-5, msg=name)
