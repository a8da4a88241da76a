"""Telemetry: JSON lines that say what ran, how fast against the machine's own products, and how it ended."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import show_telemetry as board
import torch
from small_models import small_config

from submission.config import load_config
from submission.train.loop import LOST_STEPS, Diverged, LossWatch, filled_up
from submission.train.speed import training_flops_per_token
from submission.train.telemetry import Telemetry

CONFIG = small_config()
BENCH = Path(__file__).resolve().parents[3] / "tests" / "bench"


def step_line(step: int) -> dict:
    return {"step": step, "tokens": 64 * step, "loss": 4.0 - step, "tokens_per_s": 1000, "held_out_loss": 0.5}


def write(folder: Path, *, fails: bool = False) -> list[dict]:
    telemetry = Telemetry(CONFIG, torch.device("cpu"), 2, {"scan": "chunked"})
    try:
        with telemetry.open(folder, 0):
            telemetry.step(step_line(1))
            telemetry.step(step_line(2))
            if fails:
                raise ValueError("no good")
    except ValueError:
        pass
    return [json.loads(line) for line in (folder / "telemetry-0.jsonl").read_text().splitlines()]


def test_the_first_line_says_what_runs_and_each_step_its_utilisation_and_memory(tmp_path):
    head, first, _, last = write(tmp_path)
    assert head["backends"] == {"scan": "chunked"}
    assert head["config"]["MODEL_DIM"] == 32
    assert head["product_flops"] > 1e8
    want = 1000 * head["flops_per_token"] / (2 * head["product_flops"])
    assert first["mfu"] == pytest.approx(want, abs=1e-4)
    assert 1e7 < first["memory_bytes"] < 1e11
    assert first["held_out_loss"] == 0.5
    assert last == {"ended": "complete", "graphs_compiled_in_clock": 0}


def test_a_run_that_fails_leaves_its_lines_and_the_reason(tmp_path):
    lines = write(tmp_path, fails=True)
    assert [line.get("step") for line in lines] == [None, 1, 2, None]
    assert lines[-1]["ended"] == "ValueError: no good"


def test_measuring_the_device_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    Telemetry(CONFIG, torch.device("cpu"), 1, {})
    assert torch.equal(torch.rand(4), want)


def test_the_flops_of_the_reference_configuration_counted_by_hand():
    config = load_config({"RECIPE": "pr1890"}, "non_record_16mb")
    weights = 6 * 25_159_984
    attention = 2 * 3 * (2 * 2 * 2048 * 512)  # two layers; scores and values over 2,048 keys on average
    scans = 5 * 3 * (2 * 2 * 16 * 64 * 64)
    assert training_flops_per_token(config) == weights + attention + scans


def test_a_loss_worse_than_a_guess_ends_the_run_only_when_it_stays():
    watch = LossWatch(64)
    for step in range(1, LOST_STEPS):
        watch.see(step, 9.0)
    watch.see(LOST_STEPS, 4.0)
    for step in range(LOST_STEPS + 1, 2 * LOST_STEPS):
        watch.see(step, 9.0)
    with pytest.raises(Diverged, match=f"step {LOST_STEPS} was the last good one"):
        watch.see(2 * LOST_STEPS, 9.0)


def test_few_held_out_windows_are_filled_up_so_that_no_new_size_is_compiled():
    assert filled_up(torch.arange(3), 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert filled_up(torch.arange(9), 8).tolist() == list(range(8))
    assert len(filled_up(torch.empty(0, 5), 8)) == 0


def test_tensorboard_shows_every_number_at_its_step(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path)
    source = tmp_path / "telemetry-0.jsonl"
    with source.open("a") as file:
        file.write('{"step": 3, "los')  # a killed run's last line
    done = subprocess.run(
        [sys.executable, str(BENCH / "show_telemetry.py"), str(source), str(tmp_path / "board")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 3.0), (2, 2.0)]
    assert {"mfu", "memory_bytes", "held_out_loss", "tokens_per_s"} <= set(events.Tags()["scalars"])
    assert f"{len(events.Tags()['scalars']) * 2} values written" in done.stdout


@pytest.mark.parametrize("tool", ["trackio", "wandb"])
def test_other_trackers_get_every_number_at_its_step(tmp_path, monkeypatch, tool):
    calls = []
    stand_in = SimpleNamespace(
        init=lambda **given: calls.append(("init", given)),
        log=lambda values, step: calls.append(("log", step, values["loss"])),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, tool, stand_in)
    monkeypatch.setattr(board, "find_spec", lambda _: object())
    write(tmp_path)
    board.convert(tmp_path / "telemetry-0.jsonl", tmp_path / "project", tool)
    assert (calls[0][0], calls[0][1]["project"]) == ("init", "project")
    assert calls[0][1]["config"]["parameters"] > 0
    assert calls[1:] == [("log", 1, 3.0), ("log", 2, 2.0), ("finish",)]


@pytest.mark.parametrize(
    ("text", "says"), [("{}\n", "holds no step"), ("x\n{}\n", "line 1"), ("[]\n", "no JSON object")]
)
def test_a_file_that_is_no_telemetry_is_named(text, says, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "find_spec", lambda _: object())
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(board.NotConvertible, match=rf"{says}.*a\.jsonl|a\.jsonl.*{says}"):
        board.convert(tmp_path / "a.jsonl", tmp_path / "board")
    with pytest.raises(board.NotConvertible, match="not readable"):
        board.convert(tmp_path / "none.jsonl", tmp_path / "board")
    monkeypatch.setattr(board, "find_spec", lambda _: None)
    with pytest.raises(board.NotConvertible, match=r"parameter-golf-referee\[tensorboard\]"):
        board.convert(tmp_path / "a.jsonl", tmp_path)
