"""A checkpoint comes back bit by bit, and one that does not fit is told with what differs."""

import json

import pytest
import torch
from small_models import lively_model, small_config

from submission.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

CONFIG = small_config()


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, dict(lively_model(CONFIG).named_parameters()), CONFIG)
    return tmp_path


def test_weights_come_back_bit_by_bit(folder):
    want = dict(lively_model(CONFIG).named_parameters())
    for name, got in load_checkpoint(folder, CONFIG).named_parameters():
        assert torch.equal(got, want[name].float()), name


def test_another_scan_or_learning_rate_is_the_same_model(folder):
    load_checkpoint(folder, small_config(mamba3_chunk_size=16, mamba3_backend="chunked", matrix_lr=0.1))


def test_a_checkpoint_of_another_configuration_names_every_setting_and_both_values(folder):
    with pytest.raises(CheckpointError, match=r"MODEL_DIM=32 \(here 64\), MLP_MULT=3.0 \(here 2.0\); train again"):
        load_checkpoint(folder, small_config(model_dim=64, mlp_mult=2.0))
    with pytest.raises(CheckpointError, match="DOCUMENT_RESET"):
        load_checkpoint(folder, small_config(document_reset=True))


def test_tensors_that_do_not_fit_their_own_configuration_are_named(folder):
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"MODEL_DIM": 64}))
    with pytest.raises(CheckpointError, match=r"not those of its own config\.json: size mismatch"):
        load_checkpoint(folder, small_config(model_dim=64))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_configuration_is_no_usable_checkpoint(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        load_checkpoint(folder, CONFIG)


def test_weights_that_are_not_finite_are_refused(folder):
    weights = dict(lively_model(CONFIG).named_parameters())
    weights["blocks.0.mix"] = torch.full_like(weights["blocks.0.mix"], float("nan"))
    save_checkpoint(folder, weights, CONFIG)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_checkpoint(folder, CONFIG)
