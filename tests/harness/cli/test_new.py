"""``harness new`` writes a whole submission, or nothing; ``run/test_levels.py`` submits it as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import make_house, use_house

from harness.cli.main import main
from harness.cli.new import create
from harness.errors import UsageError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["", "Mine", "../mine", "1st", "a" * 41, "a b"])
def test_a_bad_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="name is"):
        create(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        create("mine", tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []


def test_the_tests_of_a_new_submission_pass(tmp_path: Path):
    create("mine", tmp_path)
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("value", ["abc", "1.5"])
def test_a_new_submission_names_the_variable_that_it_refuses(tmp_path: Path, monkeypatch, value: str):
    make_house(tmp_path)
    use_house(tmp_path, monkeypatch.setattr, monkeypatch.setenv)
    monkeypatch.setenv("BIGRAM_WEIGHT", value)
    done = CliRunner().invoke(main, ["submit", "--submission", str(tmp_path / "mini")])
    assert isinstance(done.exception, UsageError)
    words = {"abc": "BIGRAM_WEIGHT, and its value here is neither", "1.5": "BIGRAM_WEIGHT is 1.5; wanted a number"}
    assert words[value] in str(done.exception)
    assert not (tmp_path / "records" / "runs").exists()
