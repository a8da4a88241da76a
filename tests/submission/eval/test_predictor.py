"""The predictor under the referee's protocol: modes, audits, rollback, fallback, deadline, odd sizes."""

import copy
import dataclasses
import math

import lab
import pytest
import small_models
import torch

from harness.protocol.predictor import EvalContext
from submission.config import Config, ConfigError, load_config
from submission.eval.predictor import CHUNK, FALLBACKS, LEVEL, UNDONE, HybridPredictor

STREAM = lab.markov_stream(vocab_size=64, targets=700)


def config(**changes: object) -> Config:
    base = {
        "ttt_optimiser": "sgd",
        "eval_cache_orders": "",
        "ttt_batch_windows": 0,
        "eval_seq_len": 32,
        "ttt_chunk_windows": 4,
        "eval_overlap": 8,
        "eval_stride": 12,
        "ttt_lr": 0.05,
    }
    return small_models.small_config(**(base | changes))


def context(stage: str = "final", targets: int = 700, eval_s: float = 1e9) -> EvalContext:
    return EvalContext(stage, None, None, 64, eval_s, targets, 0, 1)  # type: ignore[arg-type]


def builder(settings: Config, hook=lambda predictor: None):
    """A ``build`` that gives every worker the same float32 weights."""
    model = small_models.lively_model(settings).float()

    def build(told: EvalContext) -> HybridPredictor:
        predictor = HybridPredictor(copy.deepcopy(model), settings, dataclasses.replace(told, eval_s=1e9))
        hook(predictor)
        return predictor

    return build


def predictor(settings: Config, **told: object) -> HybridPredictor:
    made = HybridPredictor(small_models.lively_model(settings).float(), settings, context(**told))
    made.bind_state({name: t.clone() for name, t in made.state().items()})
    return made


def rows(one: HybridPredictor, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(list(one.score(inputs)))


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


def test_an_explosion_is_undone_and_counted() -> None:
    one = predictor(config(ttt_lr=1e4))
    before = {name: t.clone() for name, t in one.state().items() if name.startswith("weight/")}
    inputs = torch.randint(64, (128,))
    rows(one, inputs)
    one.adapt(inputs, inputs)
    state = one.state()
    assert int(state["control"][UNDONE]) == 1
    assert int(state["control"][CHUNK]) == 1
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(int(t.count_nonzero()) == 0 for name, t in state.items() if name.startswith("momentum/"))


def test_weights_that_are_nan_never_reach_the_score_and_heal() -> None:
    one = predictor(config())
    inputs = torch.randint(64, (128,))
    wanted = rows(predictor(config(ttt_epochs=0)), inputs)
    one.state()["weight/blocks.0.mlp.fc.weight"][0, 0] = float("nan")
    torch.testing.assert_close(rows(one, inputs), wanted, rtol=0, atol=1e-5)
    assert int(one.state()["control"][FALLBACKS]) == 1
    one.adapt(inputs, inputs)
    assert all(bool(torch.isfinite(t).all()) for t in one.state().values())
    rows(one, inputs)
    assert int(one.state()["control"][FALLBACKS]) == 1, "the adapted weights are sound again"


def infinite_embedding(weights: dict[str, torch.Tensor]) -> None:
    weights["embedding.weight"][63] = float("inf")


def overflow_of_finite_weights(weights: dict[str, torch.Tensor]) -> None:
    """Only token 63 has channel 0, and there the first MLP overflows."""
    weights["embedding.weight"][:, 0] = 0
    weights["embedding.weight"][63] = torch.eye(len(weights["embedding.weight"][63]))[0]
    weights["blocks.0.mixer_scale"][0] = 0
    weights["blocks.0.mlp.fc.weight"][:, 0] = 1e30


@pytest.mark.parametrize("damage", [infinite_embedding, overflow_of_finite_weights])
@pytest.mark.parametrize("mode", ["windows", "overlap", "carry"])
@pytest.mark.parametrize("position", [0, 20, 23, 70])
def test_the_fallback_knows_nothing_of_later_tokens(position: int, mode: str, damage) -> None:
    """A row must not change because a later token makes the weights overflow: that would be a leak (C1)."""
    one = predictor(config(eval_mode=mode))
    generator = torch.Generator().manual_seed(position)
    first, inputs = torch.randint(63, (2, 128), generator=generator)
    rows(one, first)
    one.adapt(first, first)  # the weights in force are no longer the packed ones
    packed = predictor(config(eval_mode=mode))
    for name, tensor in packed.reader.state().items():
        tensor.copy_(one.state()[name])
    damage({n.removeprefix("weight/"): t for n, t in one.state().items() if n.startswith("weight/")})
    poisoned = inputs.clone()
    poisoned[position] = 63
    clean, found, other = rows(one, inputs), rows(one, poisoned), rows(packed, poisoned)
    assert int(one.state()["control"][FALLBACKS]) == 1
    assert torch.equal(found[:position], clean[:position])
    assert (clean - rows(packed, inputs)).abs().amax() > 0.1
    if damage is overflow_of_finite_weights:  # the head's matrix is packed in whole or not at all
        other = packed.calibration.logits(packed._score_rows(poisoned)[0], one.model.embedding.weight).detach()
    torch.testing.assert_close(found[position:], other[position:], rtol=0, atol=1e-5)


def test_a_short_clock_is_obeyed_through_the_declared_state() -> None:
    settings = config(eval_mode="overlap")
    one = predictor(settings, eval_s=1e-3)
    one.pace.restart(plain_share=0.5)
    inputs = torch.randint(64, (128,))
    rows(one, inputs)
    one.adapt(inputs, inputs)
    assert int(one.state()["control"][LEVEL]) == len(one.levels) - 1
    weights = one.state()["weight/embedding.weight"].clone()
    plain = rows(one, inputs)
    one.adapt(inputs, inputs)
    assert torch.equal(one.state()["weight/embedding.weight"], weights), "frozen"
    twin = predictor(settings)
    for name, tensor in twin.state().items():
        tensor.copy_(one.state()[name])
    twin.load_state()
    assert torch.equal(rows(twin, inputs), plain), "a replica with the state needs no clock"


@pytest.mark.parametrize("mode", ["overlap", "carry"])
def test_a_run_out_of_time_passes_the_audits(mode: str) -> None:
    build = builder(config(eval_mode=mode), lambda p: setattr(p.pace, "_limit_s", 1e-3))
    outcome = lab.referee(build, STREAM, 64, chunks=4, positions=12)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)


def test_without_time_a_carried_state_goes_on_as_with_frozen_weights() -> None:
    """Plain windows would cost more there: the state must be read in any case."""
    late, frozen = predictor(config(eval_mode="carry")), predictor(config(eval_mode="carry", ttt_epochs=0))
    assert [str(plan) for plan in late.levels] == ["2 epochs", "1 epochs", "frozen"]
    late.state()["control"][LEVEL] = len(late.levels) - 1
    for _ in range(2):
        inputs = torch.randint(64, (128,))
        assert torch.equal(rows(late, inputs), rows(frozen, inputs))
        for one in (late, frozen):
            one.adapt(inputs, inputs)


@pytest.mark.parametrize("changes", [{"ttt_epochs": 0}, {"ttt_lr": 1e4}], ids=["frozen", "undone"])
@pytest.mark.parametrize("carry", ["decay", "recompute"])
def test_weights_that_did_not_change_leave_the_carried_state_alone(carry: str, changes: dict[str, object]) -> None:
    keep, other = (predictor(config(eval_mode="carry", eval_carry=way, **changes)) for way in ("keep", carry))
    inputs = torch.randint(64, (128,))
    for one in (keep, other):
        rows(one, inputs)
        one.adapt(inputs, inputs)
        assert int(one.state()["control"][UNDONE]) == ("ttt_lr" in changes)
    for name, tensor in keep.state().items():
        assert torch.equal(tensor, other.state()[name]), name


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("mode", ["overlap", "sliding", "carry"])
def test_the_bias_of_frozen_weights_learns_from_the_rows_that_were_scored(mode: str, reloaded: bool) -> None:
    one = predictor(config(eval_mode=mode, ttt_epochs=0, eval_bias_lr=1.0, eval_cache_orders=""))
    bias = torch.zeros(64)
    for _ in range(2):
        inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
        probabilities = rows(one, inputs).double().softmax(1)
        bias -= (probabilities - torch.nn.functional.one_hot(targets, 64)).mean(0).float()
        if reloaded:
            one.load_state()
        one.adapt(inputs, targets)
        torch.testing.assert_close(one.state()["calibration/bias"], bias, rtol=0, atol=1e-6)


def test_a_replica_that_learns_a_chunk_that_another_scored_has_its_state() -> None:
    changes = {"eval_mode": "overlap", "ttt_epochs": 0, "eval_cache_orders": "1,2"}
    one, replica = predictor(config(**changes)), predictor(config(**changes))
    for _ in range(2):
        inputs, targets = torch.randint(64, (128,)), torch.randint(64, (128,))
        rows(one, inputs)
        for name, tensor in replica.state().items():
            tensor.copy_(one.state()[name])
        replica.load_state()
        for each in (one, replica):
            each.adapt(inputs, targets)
        for name, tensor in one.state().items():
            assert torch.equal(tensor, replica.state()[name]), name


def test_the_warm_up_says_nothing_of_levels(capsys) -> None:
    predictor(config(eval_mode="overlap")).warm_up()
    assert "clock" not in capsys.readouterr().err


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


@pytest.mark.parametrize("size", [1, 2])
def test_a_warm_up_without_room_for_graphs_goes_on_alone_but_not_among_others(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other ranks are in the middle of the pass that failed here; what comes next would meet it half-way."""
    made = predictor(config())
    made.ranks.size = size
    rehearse, levels = made._rehearse, []

    def crowded(tokens: torch.Tensor, level: int) -> float:
        levels.append(level)
        if made.keeps_graph:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rehearse(tokens, level)

    monkeypatch.setattr(made, "_rehearse", crowded)
    if size > 1:
        with pytest.raises(torch.OutOfMemoryError):
            made.warm_up()
        assert levels == [0]
    else:
        made.warm_up()
        assert not made.keeps_graph
