"""The configuration: what contradicts itself or is misspelt is named, and what is taken runs."""

import tomllib

import pytest
import torch
from small_models import small_config

from submission.config import MANIFEST, ConfigError, load_config, variables
from submission.model.hybrid import build_model


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NUM_LAYERS": "1", "NUM_ATTN_LAYERS": "0"}, "NUM_LAYERS is 1; wanted at least 2"),
        ({"MAMBA3_D_STATE": "2"}, "MAMBA3_D_STATE times MAMBA3_ROPE_FRACTION must be at least 2"),
        ({"MAMBA3_D_STATE": "3"}, "MAMBA3_D_STATE times MAMBA3_ROPE_FRACTION must be at least 2"),
    ],
)
def test_sizes_without_a_model_are_named(environ, message):
    with pytest.raises(ConfigError, match=message):
        load_config(environ, "smoke")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 2, "num_attn_layers": 0},
        {"num_layers": 2, "num_attn_layers": 1},
        {"mamba3_d_state": 2, "mamba3_rope_fraction": 1.0},
        {"mamba3_d_state": 4},
    ],
)
def test_the_smallest_sizes_that_are_taken_run(changes):
    load_config({name.upper(): str(value) for name, value in changes.items()}, "smoke")
    model = build_model(small_config(**changes))
    logits = model(torch.zeros(1, 20, dtype=torch.long))
    logits.sum().backward()
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MLP_MULTI", "MLP_MULT"),
        ("ITERATION", "ITERATIONS"),
        ("WEIGHT_DECAYS", "WEIGHT_DECAY"),
        ("MODEL_DIMS", "MODEL_DIM"),
        ("TTT_EPOCH", "TTT_EPOCHS"),
        ("NUM_LAYERZ", "NUM_LAYERS"),
    ],
)
def test_a_misspelt_variable_is_named_whatever_its_beginning(name, meant):
    with pytest.raises(ConfigError, match=rf"unknown variable {name}; did you mean {meant}\?"):
        load_config({name: "4", "HOME": "/root", "PATH": "/bin", "OMP_NUM_THREADS": "1"}, "smoke")


def test_a_name_of_the_namespace_is_refused_without_a_likeness():
    with pytest.raises(ConfigError, match=r"unknown variable MUON_QQQQQQQQQQQQQQQQQQQQ\."):
        load_config({"MUON_QQQQQQQQQQQQQQQQQQQQ": "1"}, "smoke")


def test_every_variable_reaches_the_cells_and_nothing_else():
    assert set(tomllib.loads(MANIFEST.read_text())["env"]["accept"]) == set(variables())
