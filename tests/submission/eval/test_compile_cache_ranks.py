"""Each rank leaves its compiled graphs in a part of its own; a later cell's rank starts from a copy of that part."""

import os
from pathlib import Path

import pytest

from submission.eval.compile_cache import use_compile_cache


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.parametrize("rank", [0, 7])
def test_a_rank_finds_its_own_graphs_again_and_no_other_rank_s(rank: int, tmp_path: Path) -> None:
    kept, private = tmp_path / "kept", tmp_path / "private"
    kept.mkdir()
    private.mkdir()
    os.environ["GOLF_COMPILE_CACHE_OUT"] = str(kept)
    for one in (0, 7):
        use_compile_cache(one)
        for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            folder = Path(os.environ[variable])
            folder.mkdir(parents=True)
            (folder / "graph").write_text(f"of rank {one}")
    del os.environ["GOLF_COMPILE_CACHE_OUT"]
    os.environ |= {"GOLF_COMPILE_CACHE": str(kept), "TMPDIR": str(private)}
    use_compile_cache(rank)
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        folder = Path(os.environ[variable])
        assert folder.is_relative_to(private)
        assert [file.read_text() for file in folder.iterdir()] == [f"of rank {rank}"]
