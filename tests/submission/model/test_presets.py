"""Presets: each is complete, and the derived one changes only what it says."""

import dataclasses

import pytest

from submission.config import PRESETS, load_config
from submission.model.hybrid import parameter_count

NAMES = sorted(path.stem for path in PRESETS.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_whole_configuration(name):
    assert load_config({"RECIPE": name}, "non_record_16mb").recipe == name


def test_the_best_recipe_trains_the_same_model():
    best, reference = (load_config({"RECIPE": name}, "non_record_16mb") for name in ("best", "pr1890"))
    assert parameter_count(best) == parameter_count(reference)
    differing = {f.name for f in dataclasses.fields(best) if getattr(best, f.name) != getattr(reference, f.name)}
    assert "matrix_lr" in differing
    assert not {name for name in differing if name.startswith(("num_", "model_", "mamba3_", "vocab_"))}
