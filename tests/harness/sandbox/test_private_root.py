"""What a private root has to hold: found without making one."""

import os
import tempfile
from pathlib import Path

import pytest
from cells import spec

from harness.errors import CouldNotCheck
from harness.sandbox.cell import Cell
from harness.sandbox.namespaces import layout


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for name in ("usr/lib/libc", "opt/venv/bin/python3", "work/data/val", "work/code/model"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "venv").symlink_to(tmp_path / "opt" / "venv")
    (tmp_path / "opt" / "venv" / "bin" / "python").symlink_to("../../../usr/lib/libc")
    return tmp_path


def test_links_on_the_way_are_kept_and_folders_hold_what_lies_below(disk: Path):
    real, _, links = layout([disk / "lib", disk / "usr", disk / "venv" / "bin" / "python3", disk / "work" / "code"])
    assert real == {disk / "usr", disk / "opt" / "venv" / "bin" / "python3", disk / "work" / "code"}
    assert links == {disk / "lib": "usr/lib", disk / "venv": str(disk / "opt" / "venv")}


def test_a_link_to_a_link_brings_both_and_their_target(disk: Path):
    real, _, links = layout([disk / "venv" / "bin" / "python"])
    assert real == {disk / "usr" / "lib" / "libc"}
    assert set(links) == {disk / "venv", disk / "opt" / "venv" / "bin" / "python"}


def test_a_writable_folder_below_one_that_is_read_lies_on_top_of_it(disk: Path):
    real, writable, _ = layout([disk / "work", disk / "work" / "data" / "val", disk / "usr"], [disk / "work" / "data"])
    assert real == {disk / "work", disk / "usr"}
    assert writable == {disk / "work" / "data"}


def test_what_lies_in_a_writable_folder_is_writable_with_it(disk: Path):
    real, writable, _ = layout([disk / "work" / "data" / "val", disk / "work" / "code"], [disk / "work" / "data"])
    assert real == {disk / "work" / "code"}
    assert writable == {disk / "work" / "data"}


def test_what_is_missing_or_goes_in_circles_is_left_out(disk: Path):
    (disk / "round").symlink_to(disk / "round")
    real, _, links = layout([disk / "no-such-file", disk / "round", disk / "usr" / "lib" / "libc"])
    assert real == {disk / "usr" / "lib" / "libc"}
    assert links == {}


@pytest.mark.parametrize("variable", ["TMPDIR", "write"])
def test_a_folder_in_shared_memory_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str):
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a writable /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if variable == "TMPDIR":
            monkeypatch.setattr(tempfile, "tempdir", folder)
        write = (Path(folder),) if variable == "write" else ()
        with pytest.raises(CouldNotCheck, match="the machine's /dev/shm") as refused:
            Cell(spec("", tmp_path / "log", write=write), strict=False).__enter__()
        assert folder in str(refused.value)
        assert "TMPDIR" in refused.value.remedy
        assert os.listdir(folder) == []
