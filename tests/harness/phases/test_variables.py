"""A variable that was meant for the submission and misspelt stops the run before anything starts."""

from pathlib import Path

import pytest

from harness.artifact.bundle import read_folder
from harness.errors import UsageError
from harness.phases.manifest import check_variables, read_manifest

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
