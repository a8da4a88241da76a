"""What packaging refuses, and what it must survive: weights, Hessians, vocabularies, budgets."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import lively_model, small_config

from submission.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from submission.config import Config
from submission.model.hybrid import Hybrid
from submission.package.fit import DoesNotFit
from submission.package.gptq import NotQuantisable
from submission.package.pack import Package, calibrate, package, package_model
from submission.package.packed import load_packed

CONFIG = small_config(gptq_num_seqs=2, gptq_seq_len=16)
BY_BITS = dataclasses.replace(CONFIG, quant_rd=False)
KINDS = [
    pytest.param(CONFIG, id="rate-distortion"),
    pytest.param(BY_BITS, id="gptq"),
    pytest.param(dataclasses.replace(BY_BITS, use_gptq=False), id="percentile"),
]


@dataclasses.dataclass
class Session:
    """What packaging reads of the referee's session."""

    checkpoint_dir: Path
    output_dir: Path
    vocab_size: int = 64
    model_budget_bytes: int = 10**6
    seed: int = 7

    def progress(self, **_shown: object) -> None:
        return


def packed(config: object, change: Callable[[Hybrid], None], budget: int = 10**6) -> Package:
    model = lively_model(config).float()
    with torch.no_grad():
        change(model)
    return package_model(model, config, budget, 7, lambda part, text: None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("where", ["blocks.1.mlp.fc.weight", "blocks.0.mixer.dt_bias"])
def test_nan_and_infinite_weights_are_refused_before_any_work(config: object, where: str, value: float) -> None:
    def change(model: Hybrid) -> None:
        dict(model.named_parameters())[where].view(-1)[0] = value

    with pytest.raises(NotQuantisable, match="NaN or infinity"):
        packed(config, change)


@pytest.mark.parametrize("config", KINDS)
def test_rows_of_zeros_stay_zero_and_the_dead_inputs_that_they_make_do_no_harm(config: object) -> None:
    """Rows of the first MLP matrix that are zero leave columns of the second one's Hessian at zero."""

    def change(model: Hybrid) -> None:
        model.blocks[1].mlp.fc.weight[:20] = 0
        model.embedding.weight[5] = 0

    weights = load_packed(packed(config, change).data, config).weights()
    assert weights["blocks.1.mlp.fc.weight"].any(1).tolist() == [False] * 20 + [True] * (96 - 20)
    assert not weights["embedding.weight"][5].any()
    found = weights["blocks.1.mlp.proj.weight"]
    wanted = lively_model(config).float().blocks[1].mlp.proj.weight.detach()
    assert torch.isfinite(found).all()
    assert torch.nn.functional.cosine_similarity(found[:, 20:].flatten(), wanted[:, 20:].flatten(), 0) > 0.9


@pytest.mark.parametrize("rd", [True, False])
def test_a_budget_out_of_reach_names_the_nearest_size_which_is_within_reach(rd: bool) -> None:
    config = dataclasses.replace(CONFIG, quant_rd=rd)
    with pytest.raises(DoesNotFit, match=r"[0-9,]+ bytes.*budget is 900\.") as caught:
        packed(config, lambda model: None, 900)
    named = int(next(w for w in str(caught.value).split() if w.replace(",", "").isdigit()).replace(",", ""))
    if not rd:  # the other search takes long
        assert len(packed(config, lambda model: None, round(1.02 * named)).data) <= 1.02 * named


def test_another_vocabulary_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, dict(lively_model(CONFIG).named_parameters()), CONFIG)
    out = tmp_path / "out"
    out.mkdir()
    session = Session(tmp_path, out, vocab_size=65)
    with pytest.raises(CheckpointError, match="VOCAB_SIZE=64"):
        package(session, dataclasses.replace(CONFIG, vocab_size=65), torch.device("cpu"))
    assert not list(out.iterdir())


def test_the_file_and_the_report_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path, dict(lively_model(BY_BITS).named_parameters()), BY_BITS)
    out = tmp_path / "out"
    out.mkdir()
    package(Session(tmp_path, out), BY_BITS, torch.device("cpu"))
    report = json.loads(capsys.readouterr().out)
    data = (out / "model.bin").read_bytes()
    assert report["bytes"] == len(data)
    model = load_checkpoint(tmp_path, BY_BITS)
    assert set(load_packed(data, BY_BITS).weights()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("rd", [True, False])
def test_the_remedy_for_a_singular_hessian_packs(rd: bool) -> None:
    config = dataclasses.replace(CONFIG, quant_rd=rd)
    model = lively_model(config).float()

    def made(chosen: Config) -> Package:
        return package_model(model, chosen, 10**6, 7, lambda part, text: None, bad)

    bad = calibrate(model, config, 7, lambda low, high, text: lambda part: None)
    name = "blocks.1.mlp.fc.weight"
    bad.hessians[name] -= 100 * torch.eye(len(bad.hessians[name]))
    with pytest.raises(NotQuantisable, match="QUANT_RD=0 with USE_GPTQ=0"):
        made(config)
    remedied = dataclasses.replace(config, quant_rd=False, use_gptq=False)
    assert load_packed(made(remedied).data, remedied).weights()
