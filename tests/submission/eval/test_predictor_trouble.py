"""When an evaluation goes wrong: explosions, weights that fail, a short clock, reloaded states, no memory."""

import lab
import pytest
import torch
from predictors import STREAM, builder, config, predictor, rows

from submission.eval.predictor import FALLBACKS, LEVEL, UNDONE


def test_an_explosion_is_undone_and_counted() -> None:
    one = predictor(config(ttt_lr=1e4))
    before = {name: t.clone() for name, t in one.state().items() if name.startswith("weight/")}
    inputs = torch.randint(64, (128,))
    rows(one, inputs)
    one.adapt(inputs, inputs)
    state = one.state()
    assert int(state["control"][UNDONE]) == 1
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
@pytest.mark.parametrize("mode", ["windows", "overlap"])
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
        other = packed._final_logits(
            packed._score_rows(poisoned)[0], one.model.embedding.weight.detach(), torch.empty_like(other)
        )
    torch.testing.assert_close(found[position:], other[position:], rtol=0, atol=1e-5)


def test_a_short_clock_is_obeyed_through_the_declared_state() -> None:
    settings = config(eval_mode="overlap")
    one = predictor(settings, eval_s=1e-3)
    one.pace.restart()
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


def test_a_run_out_of_time_passes_the_audits() -> None:
    build = builder(config(eval_mode="overlap"), lambda p: setattr(p.pace, "_limit_s", 1e-3))
    outcome = lab.referee(build, STREAM, 64, chunks=4, positions=12)
    assert not outcome.fired - {"S6-PLAUSIBLE"}, (outcome.reason, outcome.findings)


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


@pytest.mark.parametrize(("compiled", "passes"), [(False, [0]), (True, [0, 2, 0])])
def test_a_warm_up_reads_once_where_nothing_is_compiled(
    compiled: bool, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, levels = predictor(config()), []
    made.reader.fixed = compiled
    monkeypatch.setattr(made, "_rehearse", lambda _, level: levels.append(level))
    made.warm_up()
    assert levels == passes


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
