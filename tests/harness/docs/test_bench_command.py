"""`make bench` runs every benchmark beside its own program: each must be one that it can run."""

import runpy
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
BENCHMARKS = runpy.run_path(str(BENCH / "run.py"))["benchmarks"](BENCH)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_benchmark_has_something_to_measure(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH.parents[1])
    assert callable(runpy.run_path(str(path)).get("measure"))
