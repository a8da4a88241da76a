"""``harness new`` writes a whole submission, or nothing."""

import pytest

from harness.cli.new import create
from harness.errors import UsageError


def test_the_folder_is_complete_and_carries_the_name(tmp_path):
    folder = create("mine", tmp_path)
    assert 'name = "mine"' in (folder / "submission.toml").read_text()
    entries = {"describe_entry.py", "train_entry.py", "package_entry.py", "eval_entry.py"}
    assert entries <= {path.name for path in folder.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


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
