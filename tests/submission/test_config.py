"""The configuration: what contradicts itself or is misspelt is named, and what is taken runs."""

import dataclasses
import tomllib

import pytest
import torch
from small_models import small_config

from submission.config import (
    MANIFEST,
    ConfigError,
    as_scalars,
    help_text,
    load_config,
    preset,
    resolve,
    size_of,
    variables,
)
from submission.model.hybrid import build_model, parameter_count


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NUM_LAYERS": "1", "NUM_ATTN_LAYERS": "0"}, "NUM_LAYERS is 1; wanted at least 2"),
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


def test_a_misspelt_variable_is_named():
    with pytest.raises(ConfigError, match=r"unknown variable MLP_MULTI; did you mean MLP_MULT\?"):
        load_config({"MLP_MULTI": "4", "HOME": "/root", "PATH": "/bin", "OMP_NUM_THREADS": "1"}, "smoke")


def test_every_variable_reaches_the_cells_and_nothing_else():
    assert set(tomllib.loads(MANIFEST.read_text())["env"]["accept"]) == set(variables())


SEEDS_COMMAND = """SEED=1337 VOCAB_SIZE=8192 NUM_LAYERS=7 NUM_ATTN_LAYERS=2
  TRAIN_SEQ_LEN=4096 WARMDOWN_ITERS=2600 WARMDOWN_SHAPE=linear
  MUON_EQ_R=1 LATE_QAT_THRESHOLD=0.15
  USE_GPTQ=1 QUANT_BITS=6 QUANT_BITS_EMBED=8 GPTQ_NUM_SEQS=32
  EVAL_OVERLAP=1024 USE_LZMA=1 EVAL_TEMP=0.9 TTT_EPOCHS=2
  WEIGHT_DECAY=0.04 MUON_MOMENTUM=0.99 MATRIX_LR=0.025"""
TRACKS = ["smoke", "one_gpu_120s", "non_record_16mb", "10min_16mb"]


@pytest.mark.parametrize("recipe", [{}, {"RECIPE": "pr1890"}, {"RECIPE": "best"}])
@pytest.mark.parametrize("track", TRACKS)
def test_the_command_of_pull_request_1890_is_taken_on_every_track(track: str, recipe: dict[str, str]):
    """Each of its variables has its value in force, or a note names it."""
    asked = dict(pair.split("=") for pair in SEEDS_COMMAND.split())
    vocabulary = "1024" if track == "smoke" else "8192"
    config, notes = resolve(asked | recipe | {"GOLF_VOCAB_SIZE": vocabulary}, track)
    found = as_scalars(config)
    assert found["VOCAB_SIZE"] == int(vocabulary)
    for name in asked.keys() - {"SEED"}:
        in_force = float(found[name]) == float(asked[name]) if name != "WARMDOWN_SHAPE" else found[name] == "linear"
        assert in_force or any(f"{name}={asked[name]} cannot act here" in note for note in notes), name
    said = " ".join(note for note in notes if not note.startswith("the size of track"))
    assert "EVAL_TEMP" in said
    assert ("EVAL_OVERLAP" in said) == (config.eval_mode == "windows" or track == "smoke")
    assert ("USE_GPTQ" in said) == ("QUANT_BITS_EMBED" in said) == config.quant_rd
    assert ("USE_LZMA" in said) == config.quant_rd
    assert "TTT_EPOCHS" not in said.replace("TTT_EPOCHS=0", "")


@pytest.mark.parametrize("track", TRACKS)
def test_the_method_is_the_recipes_and_the_size_the_tracks(track: str):
    config, notes = resolve({"RECIPE": "pr1890"}, track)
    changed = {n for n, value in preset("pr1890").items() if getattr(config, n) != value}
    assert changed <= set(size_of(track))
    assert not changed & {n for n in preset("pr1890") if n.startswith(("quant_", "use_", "ttt_ep", "ttt_lr", "ttt_o"))}
    assert [name.upper() for name in changed if not any(f"{name.upper()}=" in note for note in notes)] == []
    assert bool(notes) == bool(changed)


def test_the_best_recipe_trains_the_same_model():
    best, reference = (load_config({"RECIPE": name}, "non_record_16mb") for name in ("best", "pr1890"))
    assert parameter_count(best) == parameter_count(reference) == 25_159_984
    differing = {f.name for f in dataclasses.fields(best) if getattr(best, f.name) != getattr(reference, f.name)}
    assert "matrix_lr" in differing
    assert not {name for name in differing if name.startswith(("num_", "model_", "mamba3_", "vocab_"))}


def test_a_recipe_made_for_its_track_has_nothing_to_say():
    assert resolve({}, "smoke")[1] == []
    assert resolve({"RECIPE": "best"}, "one_gpu_120s")[1] == []


def test_what_contradicts_itself_is_still_refused():
    for environ in ({"ITERATIONS": "100", "WARMDOWN_ITERS": "200"}, {"TRAIN_BATCH_TOKENS": "128"}):
        with pytest.raises(ConfigError, match=r"WARMDOWN_ITERS must not|TRAIN_SEQ_LEN must divide"):
            load_config(environ, "smoke")


def test_an_unknown_recipe_is_named_with_those_there_are():
    for name in ("pr1891", "sizes/smoke", "../presets/smoke"):
        with pytest.raises(ConfigError, match=r"RECIPE is .*; known: best, pr1890, smoke\."):
            load_config({"RECIPE": name}, "smoke")


def test_only_what_the_mode_uses_is_checked():
    changes = {"EVAL_OVERLAP": "4096"}
    assert load_config(changes, "non_record_16mb").eval_mode == "windows"
    with pytest.raises(ConfigError, match="EVAL_OVERLAP must be under EVAL_SEQ_LEN"):
        load_config(changes | {"EVAL_MODE": "overlap", "EVAL_SEQ_LEN": "1024"}, "non_record_16mb")


def test_every_variable_has_a_meaning():
    names = [
        line.split("`")[1] for line in (MANIFEST.parent / "VARIABLES.md").read_text().splitlines() if "| `" in line
    ]
    assert names == list(variables())
    assert all(f"  {name}=" in help_text("pr1890", "smoke") for name in names)
