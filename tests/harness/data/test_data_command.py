"""``harness data build``, ``inspect`` and ``list`` as people use them."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from corpus import documents, ranks, small_dataset, trained

from harness.cli.data import command
from harness.data import load_validation, open_dataset
from harness.data.dataset import write_shard
from harness.errors import CouldNotCheck
from harness.progress import Reporter


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(40)))
    return path


def invoke(*arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.mark.parametrize(
    "options",
    [
        ["--tokenizer", "byte260"],
        ["--tokenizer", "small.tiktoken"],
        ["--train-tokenizer", "320"],
        ["--train-tokenizer", "320", "--case-operators"],
    ],
)
@pytest.mark.rule("A7-BYTES")
def test_build_then_use_by_name_and_by_path(tmp_path, monkeypatch, source, options):
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.tiktoken").write_bytes(ranks())
    built = json.loads(invoke("build", source, *options, "--val-docs", 10, "--name", "mine", "--json").stdout)
    raw = sum(len(text.encode()) for text in documents(10))
    assert (built["val_documents"], built["val_bytes"]) == (10, raw)
    for name in ("mine", built["folder"]):
        dataset = open_dataset(name, tmp_path / "cache" / "datasets", Reporter())
        assert int(load_validation(dataset).target_bytes.sum()) == raw
    assert "mine" in invoke("list").stdout
    report = json.loads(invoke("inspect", built["folder"], "--json").stdout)
    assert {finding["verdict"] for finding in report["findings"]} == {"PASS"}
    assert any("Address 0" in shard["text"] for shard in report["shards"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "tokenizer is not clear"),
        (["--tokenizer", "byte260", "--train-tokenizer", "9"], "tokenizer is not clear"),
        (["--tokenizer", "nothing.model"], "nothing.model is not a file"),
        (["--train-tokenizer", "5"], "cannot be trained"),
        (["--train-tokenizer", "300", "--val-docs", "40"], "nothing is left to train on"),
        (["--tokenizer", "byte260", "--val-docs", "40"], "train side is empty"),
        (["--tokenizer", "byte260", "--name", "../x"], "is not a file name"),
    ],
)
def test_wrong_options_are_one_message_and_leave_nothing(tmp_path, source, options, says):
    with pytest.raises(Exception, match=says):
        invoke("build", source, "--val-docs", 10, "--out", tmp_path / "out" / "x", *options)
    assert {path.name for path in (tmp_path / "out").glob("*")} <= {".x.lock"}


@pytest.mark.parametrize("name", ["holes.jsonl", "holes.txt"])
def test_a_source_of_holes_is_refused_before_it_is_read_to_its_end(tmp_path, source, name):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 1 << 42)  # hours of SHA-256
    with pytest.raises(CouldNotCheck, match=f"{name}.* is longer than a document may be"):
        invoke("build", source, tmp_path / name, "--tokenizer", "byte260", "--val-docs", 10, "--out", tmp_path / "out")


def test_inspect_names_the_wrong_tokenizer_a_missing_bos_and_a_changed_file(tmp_path):
    folder = small_dataset(tmp_path / "small", tokenizer=trained())
    assert "wrong tokenizer" in invoke("inspect", folder, "--tokenizer", "byte260").stdout
    path = folder / "small_train_000000.bin"
    path.unlink()
    write_shard(path, np.arange(5, 20))
    result = invoke("inspect", folder)
    assert result.return_value == 1
    assert "train does not begin with BOS" in result.stdout
    assert "small_train_000000.bin differ from dataset.json" in result.stdout
