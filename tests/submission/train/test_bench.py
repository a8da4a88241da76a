"""The benchmarks of training run at tiny size on a CPU and report what they promise."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import small_config
from tiny_run import make_house, tiny_dataset

from harness.data import Validation
from harness.data.dataset import join_values
from submission.train.speed import compiled_graphs

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "tests" / "bench"
SCRIPT = BENCH / "bench_train_gpu.py"
TINY = {
    "TRAIN_BATCH_TOKENS": "256", "TRAIN_SEQ_LEN": "64", "NUM_LAYERS": "2", "MODEL_DIM": "32", "MAMBA3_HEADDIM": "16",
}  # fmt: skip


def told_by_the_script(*launcher: str, steps: int) -> dict:
    changes = [argument for name, value in TINY.items() for argument in ("--env", f"{name}={value}")]
    words = [str(SCRIPT), "--device", "cpu", "--recipe", "smoke", "--steps", str(steps), *changes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launcher, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_gpu_benchmark_runs_on_a_cpu_and_sorts_all_of_a_steps_time():
    told = told_by_the_script(steps=2)
    assert told["tokens_a_step"] == 256
    assert told["tokens_per_s"] == pytest.approx(256 / told["step_s"]["median"], rel=0.01)
    rate, product = told["tokens_per_s"] * told["flops_per_token"] / 1e12, told["product_tflops"]
    rounding = 6e-5 * product + 6e-4 * told["mfu"] + told["flops_per_token"] / 1e12
    assert told["mfu"] * product == pytest.approx(rate, abs=rounding)
    assert told["over_plain"] == pytest.approx(told["tokens_per_s"] / told["plain"]["tokens_per_s"], abs=1e-3)
    assert told["recompiles_in_clock"] == 0
    assert sum(told["parts"].values()) == pytest.approx(1, abs=1e-2)
    assert told["parts"]["matrix products"] > 0


@pytest.mark.slow  # two runs of several ranks
def test_the_gpu_benchmark_compares_numbers_of_ranks():
    told = told_by_the_script("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", steps=1)
    assert told["ranks"] == 2
    assert told["in_a_row"]["tokens_per_s"] == pytest.approx(256 / told["in_a_row"]["step_s"], rel=0.01)
    assert told["collectives"] == told["parts"]["collectives"] > 0


def test_the_gpu_benchmark_refuses_a_wrong_setting_with_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--device", "cpu", "--recipe", "smoke", "--env", "NUM_LAYERZ=2"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("--env names NUM_LAYERZ;")


def test_the_cpu_benchmark_checks_that_both_steps_agree_and_gives_their_ratio(monkeypatch):
    names = runpy.run_path(str(BENCH / "bench_train.py"))
    small = small_config(train_batch_tokens=256, train_seq_len=32, train_micro_batch=4)
    for name, value in {"STEPS": 1, "PAIRS": 1, "load_config": lambda *_: small}.items():
        monkeypatch.setitem(names["measure"].__globals__, name, value)
    threads = torch.get_num_threads()
    try:
        ratio, mfu = names["measure"]()
    finally:
        torch.set_num_threads(threads)
    assert 0 < ratio.value < 100
    assert 0 < mfu.value < 1
    assert "tokens/s" in ratio.note


def test_recipes_are_screened_by_short_trainings_and_compared_seed_by_seed(tmp_path, monkeypatch):
    make_house(tmp_path / "house")
    dataset = tiny_dataset(tmp_path / "house")
    names = runpy.run_path(str(BENCH / "screen.py"))
    tokens = join_values(sorted(dataset.folder.glob("*val*")))
    for name, value in {
        "open_dataset": lambda *_: dataset,
        "load_validation": lambda _: Validation(tokens, np.full(len(tokens) - 1, 3, np.uint8)),
    }.items():
        monkeypatch.setitem(names["train"].__globals__, name, value)
    options = SimpleNamespace(recipe="smoke", track="smoke", data="tiny", seconds=3.0, targets=1000)
    threads = torch.get_num_threads()
    recipe = " ".join(f"{name}={value}" for name, value in (TINY | {"TRAIN_CLOCK_MARGIN_S": "0"}).items())
    try:
        run = names["train"](options, recipe, 1)
    finally:
        torch.set_num_threads(threads)
    assert run["steps"] >= 1
    assert 0 < run["bpb"] < 10 / 3  # a guess among 1,024 tokens of three bytes
    results = {"": [run, run | {"bpb": run["bpb"] + 1}], "A=1": [run | {"bpb": run["bpb"] - 0.002}, run]}
    rows = names["table"](results, [1, 2]).splitlines()
    assert rows[0].split() == ["|", "recipe", "|", "1", "|", "2", "|", "steps", "|", "mBPB", "|"]
    assert rows[2].startswith("| as it is ")
    assert "-501.0 ± 705.7" in rows[3]


def test_a_graph_that_is_compiled_again_is_counted():
    twice = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    twice(torch.ones(3))
    before = compiled_graphs()
    twice(torch.ones(3))
    assert compiled_graphs() == before
    twice(torch.ones(4))
    assert compiled_graphs() == before + 1
