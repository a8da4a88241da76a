"""A real run, small, through all three levels of verification by their commands, and what each says of a change."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run

from harness.cli.main import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    """The house, record and artifact of one finished run."""
    house = tmp_path_factory.mktemp("levels") / "house"
    with pytest.MonkeyPatch.context() as patch:
        tiny_run.make_house(house)
        tiny_run.use_house(house, patch.setattr, patch.setenv)
        outcome = tiny_run.run_tiny(house)
        yield SimpleNamespace(house=house, record=outcome.path, artifact=outcome.run_dir / "artifact")


@pytest.fixture
def call(finished, capsys):
    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out

    return call


def verdicts(text: str, rule: str) -> set[str]:
    files = [file for folder in json.loads(text)["folders"] for file in folder["files"]]
    return {finding["verdict"] for file in files for finding in file["findings"] if finding["rule"] == rule}


def test_level_1_the_record_alone(call, finished):
    code, text = call("verify", finished.record, "--json")
    assert code == 0, text
    assert verdicts(text, "R1-SIGNATURE") == verdicts(text, "R3-CHAIN") == {"PASS"}


@pytest.mark.rule("R6-REPRODUCED")
def test_level_2_the_artifact_gives_the_same_score_again(call, finished):
    code, text = call("verify", finished.record, "--artifact", finished.artifact, "--rescore", "--json")
    assert code == 0, text
    assert verdicts(text, "R6-REPRODUCED") == {"PASS"}


@pytest.mark.parametrize("name", ["model.bin", "code.bundle"])
def test_level_2_another_artifact_is_named(call, finished, tmp_path: Path, name: str):
    other = shutil.copytree(finished.artifact, tmp_path / "artifact")
    content = bytearray((other / name).read_bytes())
    content[-1] ^= 1
    (other / name).chmod(0o600)
    (other / name).write_bytes(content)
    code, text = call("verify", finished.record, "--artifact", other, "--rescore", "--json")
    assert code == 1
    assert name in text
    assert verdicts(text, "R6-REPRODUCED") == set()


def test_level_2_without_the_artifact_could_not_be_checked(call, finished, tmp_path: Path):
    assert call("verify", finished.record, "--artifact", tmp_path / "nowhere")[0] == 3


@pytest.mark.rule("R6-REPRODUCED")
def test_level_3_the_whole_run_again_gives_the_same_bits(call, finished):
    code, text = call("rerun", finished.record, "--code", finished.artifact / "code.bundle", "--sign", "--json")
    assert code == 0, text
    assert json.loads(text)["comparison"]["outcome"] == "same"
    code, text = call("verify", finished.record, "--json")
    assert (code, verdicts(text, "R6-REPRODUCED")) == (0, {"PASS"})
