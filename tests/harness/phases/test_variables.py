"""A variable that was meant for the submission and misspelt stops the run before anything starts."""

from pathlib import Path

import pytest

from harness.artifact.bundle import read_folder
from harness.errors import RuleBroken, UsageError
from harness.phases.manifest import MAX_SETTINGS_BYTES, accepted_variables, check_variables, read_manifest
from harness.sandbox.policy import cell_environment

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def manifest():
    return read_manifest(read_folder(ROOT / "submission"), "submission")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TTT_EPOCH", "TTT_EPOCHS"),
        ("NUM_LAYERZ", "NUM_LAYERS"),
        ("ITERATION", "ITERATIONS"),
        ("WEIGHT_DECY", "WEIGHT_DECAY"),
        ("RECIPEE", "RECIPE"),
        ("MODEL_DIMM", "MODEL_DIM"),
        ("RECPIE", "RECIPE"),
        ("SEEED", "SEED"),
        ("TRAK", "TRACK"),
    ],
)
def test_a_typing_error_is_named_with_what_was_meant(manifest, name: str, meant: str):
    with pytest.raises(UsageError, match=rf"{name} \(did you mean {meant}\?\)"):
        check_variables(manifest, {name: "1", "HOME": "/root"})


def test_a_name_of_the_namespace_is_refused_without_a_likeness(manifest):
    with pytest.raises(UsageError, match="MUON_QQQQQQQQQQQQQQQQQQQQ"):
        check_variables(manifest, {"MUON_QQQQQQQQQQQQQQQQQQQQ": "1"})


def test_accepted_names_and_names_of_others_pass(manifest):
    others = {
        "HOME",
        "PATH",
        "SHELL",
        "LANG",
        "SEED",
        "TRACK",
        "DATA",
        "OMP_NUM_THREADS",
        "RECORD",
        "HOSTNAME",
        "EDITOR",
    }
    check_variables(manifest, dict.fromkeys({*manifest.env.accept, *others}, "1"))


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_variables_hold_settings_and_no_weights(manifest):
    room = MAX_SETTINGS_BYTES - len("RECIPE")
    fits = {"RECIPE": "é" * (room // 2), "OTHERS": "x" * 10**6}
    assert accepted_variables(manifest, fits) == {"RECIPE": fits["RECIPE"]}
    for sets in ({"RECIPE": "é" * (room // 2) + "x"}, dict.fromkeys(manifest.env.accept, "x" * 50)):
        with pytest.raises(RuleBroken, match=r"hold .* bytes, names and values; 4,096 at most") as caught:
            check_variables(manifest, sets)
        assert caught.value.rule == "A3-NO-UNCOUNTED-CODE"
        assert "model file" in caught.value.remedy


def test_a_whole_configuration_fits(manifest):
    """A rerun sets every accepted variable to what the record says."""
    check_variables(manifest, dict.fromkeys(manifest.env.accept, "0.0123456789"))


def test_a_variable_that_every_cell_inherits_holds_no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TZ", "x" * 5000)
    with pytest.raises(UsageError, match="TZ is 5,000 characters"):
        cell_environment(tmp_path, gpus=False)
