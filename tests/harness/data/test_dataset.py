"""A data set opens only when each byte of it is what was built."""

import json
import os
import shutil

import numpy as np
import pytest
from corpus import documents, small_dataset, trained

from harness.data import load_validation, open_dataset
from harness.data.build import folder_lock
from harness.data.dataset import write_shard
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.progress import Reporter


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("built") / "small")


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "small", ignore=shutil.ignore_patterns("verified.json"))


def opened(folder):
    return open_dataset(str(folder), folder.parent, Reporter())


@pytest.mark.rule("A7-BYTES")
def test_the_ledger_sums_to_the_raw_size_over_several_shards(built):
    dataset = opened(built)
    validation = load_validation(dataset)
    raw = sum(len(text.encode()) for text in documents(8))
    assert len(list(built.glob("small_val_0*.bin"))) > 1
    assert len(dataset.train_shards) > 1
    assert int(validation.target_bytes.sum()) == dataset.val_bytes == raw
    assert validation.tokens.dtype == np.uint16
    assert len(validation.target_bytes) == len(validation.tokens) - 1
    assert (validation.tokens == 1).sum() == dataset.val_documents == 8
    assert not validation.target_bytes[validation.tokens[1:] == 1].any()


def test_the_same_input_has_the_same_fingerprint_and_other_input_another(built, tmp_path):
    again, other = small_dataset(tmp_path / "again"), small_dataset(tmp_path / "other", val=documents(9))
    assert opened(again).fingerprint == opened(built).fingerprint != opened(other).fingerprint


@pytest.mark.parametrize("name", ["small_val_000000.bin", "small_train_000001.bin", "small_bpe.model"])
@pytest.mark.parametrize("fault", ["changed", "truncated", "missing"])
def test_a_damaged_file_is_named(copy, name, fault):
    path = copy / name
    content = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(content[:-2])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(CouldNotCheck, match=name):
        opened(copy)


def test_a_change_after_a_good_check_is_still_seen(copy):
    opened(copy)
    path = copy / "small_train_000000.bin"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CouldNotCheck, match="has changed"):
        opened(copy)


def test_a_foreign_shard_beside_the_others_is_named(copy):
    write_shard(copy / "small_train_000099.bin", np.zeros(4, np.uint16))
    with pytest.raises(CouldNotCheck, match=r"train shard|not listed"):
        opened(copy)


def test_the_wrong_tokenizer_for_a_track_is_one_message(built):
    with pytest.raises(UsageError, match=r"vocabulary of .*track smoke wants 1,024.*wrong tokenizer"):
        opened(built).require_vocab(1024, "track smoke")


@pytest.mark.rule("A7-BYTES")
def test_a7_a_ledger_that_does_not_sum_to_the_documents_is_refused(copy):
    manifest = json.loads((copy / "dataset.json").read_text())
    manifest["val_bytes"] += 1
    (copy / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(RuleBroken, match="A7-BYTES"):
        load_validation(opened(copy))


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", r"truncated|Input data"), ('{"version": 2}', "missing"), ('{"files": {"../x": ""}}', "missing")],
)
def test_a_malformed_manifest_is_one_message(copy, content, says):
    (copy / "dataset.json").write_text(content)
    with pytest.raises(CouldNotCheck, match=says):
        opened(copy)


def test_a_published_name_is_never_a_folder_of_the_working_one(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(copy.rename(tmp_path / "fineweb_sp8192").parent)
    with pytest.raises(UsageError, match="Fetch it"):
        open_dataset("fineweb_sp8192", tmp_path / "cache", Reporter())
    assert open_dataset("./fineweb_sp8192", tmp_path / "cache", Reporter()).name == "small"
    (tmp_path / "fineweb_sp8192" / "verified.json").unlink()
    os.mkfifo(tmp_path / "fineweb_sp8192" / "verified.json")
    with pytest.raises(UsageError, match="is a device or a pipe"):
        open_dataset("./fineweb_sp8192", tmp_path / "cache", Reporter())


@pytest.mark.parametrize("name", ["sotuu", "some/where"])
def test_unknown_names_and_folders_are_usage_errors(tmp_path, name):
    with pytest.raises(UsageError, match=name):
        open_dataset(name, tmp_path, Reporter())


def test_a_failed_build_leaves_nothing(tmp_path):
    def broken():
        yield from documents(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        small_dataset(tmp_path / "small", train=broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("val", "train"), [([], None), (None, []), ([" \n "], None)])
def test_an_empty_side_is_refused_and_leaves_nothing(tmp_path, val, train):
    with pytest.raises(CouldNotCheck):
        small_dataset(tmp_path / "small", val=val, train=train)
    assert list(tmp_path.iterdir()) == []


def test_a_second_builder_is_told_who_holds_the_folder(tmp_path):
    with (
        folder_lock(tmp_path / "small"),
        pytest.raises(CouldNotCheck, match="another process builds"),
        folder_lock(tmp_path / "small"),
    ):
        pass


@pytest.mark.rule("A4-DISJOINT")
def test_a4_a_shared_and_a_nearly_shared_document_are_found(tmp_path):
    same, near = documents(2)
    train = [*documents(5, 200), same, near.replace("Address", "An address")]
    assert opened(small_dataset(tmp_path / "clean")).disjoint.verdict == "PASS"
    finding = opened(small_dataset(tmp_path / "dirty", train=train)).disjoint
    assert finding.verdict == "FAIL"
    assert "1 pairs are equal, 1 nearly" in finding.message


def test_baselines_are_those_of_the_text(tmp_path):
    import lzma
    import math
    import zlib

    dataset = opened(small_dataset(tmp_path / "small"))
    text = "".join(documents(8)).encode()
    targets = load_validation(dataset).tokens[1:]
    bits = 8 / len(text)
    assert dataset.baselines_bpb["zlib_9"] == len(zlib.compress(text, 9)) * bits
    assert dataset.baselines_bpb["xz_9"] == len(lzma.compress(text, preset=9)) * bits
    assert dataset.baselines_bpb["uniform_tokens"] == pytest.approx(
        len(targets) * math.log2(trained().vocab_size) / len(text), rel=1e-12
    )
    train = np.concatenate([np.fromfile(p, "<u2", offset=1024) for p in dataset.train_shards])
    counts = np.bincount(train, minlength=trained().vocab_size) + 1.0
    bits_total = -np.log2(counts / counts.sum())[targets].sum()
    assert dataset.baselines_bpb["train_frequencies"] == pytest.approx(bits_total / len(text), rel=1e-12)
