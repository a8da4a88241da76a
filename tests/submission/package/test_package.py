"""Checkpoint to model file and back: budget, determinism, damage, sources of calibration."""

import dataclasses

import pytest
import torch
from small_models import lively_model, small_config

from harness.protocol.container import read_container, write_container
from submission.config import BOS, Config
from submission.model.decode import Decoder
from submission.package.calibrate import measure, sample_sequences
from submission.package.grid import is_quantised
from submission.package.pack import Package, package_model
from submission.package.packed import ArtifactError, load_packed

CONFIG = small_config(gptq_num_seqs=4, gptq_seq_len=48, quant_bits=8)


def made(config: Config = CONFIG, budget: int = 10**6) -> Package:
    return package_model(lively_model(config).float(), config, budget, 7, lambda part, text: None)


@pytest.fixture(scope="module")
def ours() -> Package:
    return made()


@pytest.mark.parametrize("changes", [{}, {"qk_offset": True, "document_reset": True}], ids=["plain", "documents"])
def test_decoding_step_by_step_equals_the_whole_pass(changes: dict[str, bool]) -> None:
    model = lively_model(dataclasses.replace(CONFIG, **changes))
    tokens = torch.randint(64, (3, 20), generator=torch.Generator().manual_seed(0))
    tokens[0, 7] = tokens[2, 0] = BOS
    decoder = Decoder(model, 3, 20)
    for _ in range(2):
        stepped = torch.stack([decoder.step(tokens[:, t]) for t in range(20)], 1)
        torch.testing.assert_close(stepped, model(tokens), rtol=0, atol=1e-10)
        decoder.reset()


def test_sampling_follows_the_seed() -> None:
    model = lively_model(CONFIG)
    one, same, other = (sample_sequences(model, 4, 32, seed, lambda part: None) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert int(one.max()) < 64


def test_statistics_equal_the_definition_and_do_not_depend_on_the_batch() -> None:
    model = lively_model(CONFIG)
    tokens = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(0))
    whole, parts = (measure(model, tokens, batch, 0, lambda part: None) for batch in (4, 1))
    for name, hessian in whole.hessians.items():
        torch.testing.assert_close(hessian, parts.hessians[name], rtol=1e-4, atol=1e-6) if name != (
            "embedding.weight"
        ) else None
    seen = []
    handle = model.blocks[0].mlp.fc.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    model(tokens)
    handle.remove()
    rows = seen[0].flatten(0, 1)
    torch.testing.assert_close(
        whole.hessians["blocks.0.mlp.fc.weight"].double(), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5
    )
    assert all(bool((g >= 0).all()) for g in whole.gradients.values())
    assert set(whole.gradients) == set(whole.hessians)


@pytest.mark.parametrize("changes", [{}, {"quant_rd": False}])
def test_the_file_comes_back_close_to_the_model_and_equal_to_the_bit(ours: Package, changes: dict[str, object]) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    first, second = made(config) if changes else ours, made(config)
    assert first.data == second.data
    weights = load_packed(first.data, config).weights()
    for name, value in lively_model(config).float().named_parameters():
        close = torch.nn.functional.cosine_similarity(weights[name].flatten(), value.flatten(), 0)
        assert close > 0.7, name
        wanted = first.packed.weights()[name]
        stored_as_half = value.dim() == 2 and name.endswith(".weight") and not is_quantised(name, value.shape)
        assert torch.equal(wanted.half().float() if stored_as_half else wanted, weights[name]), name


def test_the_rate_distortion_file_lands_on_its_budget(ours: Package) -> None:
    budget = len(ours.data) * 3 // 4
    smaller = made(budget=budget)
    assert 0.99 * budget <= len(smaller.data) <= budget
    assert float(str(smaller.report["delta"])) > float(str(ours.report["delta"]))


def test_pruning_lands_on_its_budget_and_says_what_it_cost() -> None:
    config = dataclasses.replace(CONFIG, quant_rd=False)
    whole = made(config)
    budget = len(whole.data) - 400
    fitted = made(config, budget)
    assert 0.99 * budget <= len(fitted.data) <= budget
    assert 0 < int(str(fitted.report["pruned"])) < int(str(fitted.report["pruning_candidates"]))


def test_random_tokens_calibrate_too() -> None:
    config = dataclasses.replace(CONFIG, quant_rd=False)
    other = made(dataclasses.replace(config, calibration_source="random"))
    assert other.data != made(config).data
    load_packed(other.data, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "format version 3; this code reads 2. Use the code that wrote it"),
        ({"version": 1}, "Package the checkpoint again"),
        ({"vocab_size": 65}, "65 tokens; VOCAB_SIZE is 64"),
        ({"coder": "lzma"}, "do not go together"),
    ],
)
def test_other_headers_are_named(ours: Package, changes: dict[str, object], message: str) -> None:
    import json

    outer = read_container(ours.data, max_unpacked_bytes=10**7)
    meta = read_container(outer["meta"], max_unpacked_bytes=10**7)
    meta["header.json"] = json.dumps(json.loads(meta["header.json"]) | changes).encode()
    outer["meta"] = write_container(None, meta, codec="lzma")
    with pytest.raises(ArtifactError, match=message):
        load_packed(write_container(None, outer, codec="none"), CONFIG)


def test_sections_that_are_missing_short_or_unknown_are_named(ours: Package) -> None:
    outer = read_container(ours.data, max_unpacked_bytes=10**7)
    for broken, message in (
        ({k: v for k, v in outer.items() if k != "codes"}, "codes"),
        (outer | {"codes": outer["codes"][:-2]}, "stream"),
        (outer | {"extra": b"1"}, "nobody asked for"),
    ):
        with pytest.raises(ArtifactError, match=message):
            load_packed(write_container(None, broken, codec="none"), CONFIG)
