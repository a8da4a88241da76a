"""Level 2: an artifact that is not the recorded one, or not sound, is caught and named."""

import hashlib
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from process_lab import BASE
from record_samples import make_record

from harness.config.tracks import load_track
from harness.errors import CouldNotCheck
from harness.protocol.container import write_container
from harness.record.predicate import RunRecord
from harness.record.store import gathered, kept_file
from harness.rules import Verdict
from harness.run.artifact import artifact_sizes, check_artifact_files, seal_submission, unpack_code

replace = msgspec.structs.replace
CODE = {"__init__.py": b"", "entry.py": b"print('hello')\n"}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_container(tmp_path / "model.bin", {"weights": bytes(range(200))}, codec="lzma")
    write_container(tmp_path / "code.bundle", CODE, codec="lzma")
    return tmp_path


@pytest.fixture
def record(artifact: Path) -> RunRecord:
    record = make_record(artifact, 1)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in CODE.items()}
    return replace(
        record,
        submission=replace(record.submission, files=files),
        sizes=replace(record.sizes, code_raw_bytes=sum(map(len, CODE.values()))),
    )


def failed(record: RunRecord, artifact: Path) -> dict[str, str]:
    return {f.rule: f.message for f in check_artifact_files(record, artifact) if f.verdict is Verdict.FAIL}


def test_the_recorded_artifact_passes(record: RunRecord, artifact: Path):
    assert [f.verdict for f in check_artifact_files(record, artifact)] == [Verdict.PASS]


@pytest.mark.rule("A3-CONTAINER")
def test_a_model_of_another_run_is_caught(record: RunRecord, artifact: Path):
    write_container(artifact / "model.bin", {"weights": bytes(200)}, codec="lzma")
    found = failed(record, artifact)
    assert "model.bin has SHA-256" in found["R4-ARITHMETIC"]
    assert "the record says" in found["A3-ARTIFACT-BYTES"]


@pytest.mark.rule("A3-CONTAINER")
def test_a_pickle_in_place_of_the_model_is_caught(record: RunRecord, artifact: Path):
    import pickle

    (artifact / "model.bin").write_bytes(pickle.dumps({"weights": [1.0]}))
    assert "A3-CONTAINER" in failed(record, artifact)


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_other_code_is_caught_naming_the_file(record: RunRecord, artifact: Path):
    write_container(artifact / "code.bundle", CODE | {"more.py": b"x = 1\n"}, codec="lzma")
    assert "more.py" in failed(record, artifact)["A3-NO-UNCOUNTED-CODE"]
    (artifact / "code.bundle").write_bytes(b"rubbish")
    assert "is not a sound container" in failed(record, artifact)["A3-NO-UNCOUNTED-CODE"]
    write_container(artifact / "code.bundle", CODE | {"entry.py/more.py": b""}, codec="lzma")
    assert (
        "'entry.py/more.py' lies below 'entry.py', which is a file" in failed(record, artifact)["A3-NO-UNCOUNTED-CODE"]
    )
    with pytest.raises(CouldNotCheck, match=r"code\.bundle is damaged"):  # and no disk is to blame
        unpack_code((artifact / "code.bundle").read_bytes(), artifact / "code")


@pytest.mark.rule("A3-ARTIFACT-BYTES")
@pytest.mark.parametrize("name", ["model.bin", "code.bundle"])
def test_a_file_of_holes_is_neither_read_nor_copied(record: RunRecord, artifact: Path, name: str):
    kept = kept_file(artifact, record.artifact_files[name])
    kept.parent.mkdir()
    (artifact / name).rename(kept)  # what a run left is taken from beside its record
    with gathered(record, artifact, artifact) as folder:
        assert [f.verdict for f in check_artifact_files(record, folder)] == [Verdict.PASS]
    os.truncate(kept, 2**40)
    with gathered(record, artifact, artifact) as folder:
        assert "was not read" in failed(record, folder)["A3-ARTIFACT-BYTES"]


def test_a_missing_file_could_not_be_checked(record: RunRecord, artifact: Path):
    (artifact / "model.bin").unlink()
    (found,) = check_artifact_files(record, artifact)
    assert found.verdict is Verdict.ERROR


@pytest.mark.rule("A3-ARTIFACT-BYTES")
@pytest.mark.parametrize("names", [0, 100])
def test_names_of_empty_files_count_where_files_do(tmp_path: Path, names: int):
    """By the reading "raw" 1,900 of them carried 163 kB that no count showed."""
    shutil.copytree(BASE, tmp_path / "mine")
    for name in range(names):
        (tmp_path / "mine" / hashlib.sha512(bytes([name])).hexdigest()).touch()
    sealed, track = seal_submission(tmp_path / "mine", tmp_path), load_track("smoke")
    raw = replace(track, readings=replace(track.readings, code_bytes="raw"))
    counted = artifact_sizes(raw, sealed, 0).code_bytes
    assert (counted > max(64 * names, sealed.raw_bytes)) if names else (counted == sealed.raw_bytes)
