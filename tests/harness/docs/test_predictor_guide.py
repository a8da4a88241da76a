"""The guide to a predictor from scratch, followed to the letter: its code in a new submission, tested and refereed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import make_house, use_house

from harness.cli.main import main

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "harness" / "docs" / "predictor.md").read_text()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A submission made from the template, then changed as the guide says."""
    make_house(tmp_path)
    code = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    built = re.search(r"^    (return Trigram\(.*\))$", GUIDE, re.MULTILINE)
    assert code is not None
    assert built is not None
    entry = tmp_path / "mini" / "eval_entry.py"
    text = entry.read_text()
    head, rest = text[: text.index("class Bigram")], text[text.index("def build") :]
    rest = re.sub(r"    return Bigram\(.*\n", f"    {built[1]}\n", rest).replace("-> Bigram", "-> Trigram")
    entry.write_text(f"{head}{code[1]}\n\n{rest}")
    tests = tmp_path / "mini" / "test_predictor.py"
    text = tests.read_text().replace("Bigram(counts.float(), weight=0.9, adaptive=True)", "Trigram(VOCABULARY)")
    tests.write_text(text.replace("Bigram", "Trigram"))
    return tmp_path


def test_the_changed_submission_passes_its_own_tests(house: Path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mini"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=house, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_try_of_it_breaks_no_rule_and_leaves_no_trace(house: Path, monkeypatch):
    use_house(house, monkeypatch.setattr, monkeypatch.setenv)
    monkeypatch.chdir(house)
    done = CliRunner().invoke(main, ["try", "--quick", "--submission", "mini", "--seed", "3"], standalone_mode=False)
    assert done.return_value == 0, done.output
    assert "record    none: a try" in done.output
    assert not (house / "records").exists()
    assert not (house / "keys").exists()
