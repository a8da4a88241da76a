"""The command around the claims of a text."""

import json
from pathlib import Path

import pytest
from click import BadParameter
from click.testing import CliRunner
from report_samples import store_three_seeds

from harness.cli.check_public import claims_command as command
from harness.errors import CouldNotCheck
from harness.report.figures import collect
from harness.report.page import render_markdown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("claims")
    store_three_seeds(root)
    return root / "records"


@pytest.fixture
def text(folder):
    return render_markdown(collect([folder]))


def call(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


def test_the_command_gives_lines_words_and_exit_codes(text, folder, tmp_path: Path):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(text)
    bad.write_text(text.replace("| Mean | 1.9236", "| Mean | 1.9336"))
    assert call(good).return_value == 0
    result = call(bad, "--problems")
    assert result.return_value == 1
    assert "WRONG" in result.output
    assert "line 8: mean of bpb before quantisation 1.9336" in result.output
    document = json.loads(call(good, bad, "--json").output)
    assert [item["counts"].get("FAIL", 0) for item in document["files"]] == [0, 1]


def test_what_can_not_be_read_is_said_in_a_sentence(tmp_path: Path):
    assert isinstance(call(tmp_path / "nothing.md").exception, BadParameter)
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    assert isinstance(call(tmp_path / "binary.md").exception, CouldNotCheck)
    (tmp_path / "empty.md").write_text("")
    assert call(tmp_path / "empty.md").return_value == 0
