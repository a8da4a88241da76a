"""`make bench` runs every `bench_*.py`: each must be one that it can run."""

import runpy
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
OWN_COMMANDS = {"bench_train_gpu.py", "bench_eval_gpu.py"}  # `make bench-gpu`
RUN_BY_MAKE_BENCH = sorted(path.name for path in BENCH.glob("bench_*.py") if path.name not in OWN_COMMANDS)


@pytest.mark.parametrize("name", RUN_BY_MAKE_BENCH)
def test_every_benchmark_has_something_to_measure(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH.parents[1])
    assert callable(runpy.run_path(str(BENCH / name)).get("measure"))
