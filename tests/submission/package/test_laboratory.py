"""The size report and the table of ablations, through their commands."""

import json
import math
from pathlib import Path

import ablate
import numpy as np
import pytest
import size_report as report
import torch
from packed_loss import mean_loss, read_windows
from small_models import lively_model, small_config

from submission.checkpoint import save_checkpoint
from submission.config import load_config
from submission.model.hybrid import build_model
from submission.package.pack import package_model
from submission.package.packed import load_packed

SMOKE = load_config({"RECIPE": "smoke"}, "smoke")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model(SMOKE)
    folder = tmp_path_factory.mktemp("smoke")
    save_checkpoint(folder, dict(model.named_parameters()), SMOKE)
    shard = np.random.default_rng(0).integers(0, 1024, 2000).astype("<u2")
    (folder / "shard_val_0.bin").write_bytes(bytes(1024) + shard.tobytes())
    (folder / "shard_val_bytes_0.bin").write_bytes(bytes(1024) + np.full(2000, 3, "<u2").tobytes())
    return folder


def test_ablations_are_measured_and_summed_up(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = str(smoke / "shard_val_0.bin")
    only = ["--only", "INT6, percentile search"]
    code = ablate.main([shard, str(smoke), "--budget", "400000", "--windows", "2", *only])
    out = capsys.readouterr().out
    assert code == 0
    assert "INT6, percentile search" in out
    assert ablate.main([shard, str(smoke / "none"), "--budget", "1"]) == 2


def test_int6_rows_use_the_models_whose_qat_was_for_six_bits(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {name: smoke / name for name in ("qat6", "noqat")}
    for folder in others.values():
        folder.mkdir()
        save_checkpoint(folder, dict(build_model(SMOKE).named_parameters()), SMOKE)
    only = ["--only", "INT6, percentile search", "INT6, trained without QAT", "INT8, LZMA", "--windows", "1", "--json"]
    command = [
        str(smoke / "shard_val_0.bin"),
        str(smoke),
        "--budget",
        "1",
        "--set",
        "GPTQ_NUM_SEQS=1",
        "GPTQ_SEQ_LEN=4",
    ]
    extra = ["--without-qat", str(others["noqat"]), "--int6-qat", str(others["qat6"])]
    used = []
    for more in (extra, extra[:2]):
        assert ablate.main([*command, *more, *only]) == 0
        used.append([json.loads(line)["model"] for line in capsys.readouterr().out.splitlines()])
    assert used == [["qat6", "noqat", smoke.name], [smoke.name, "noqat", smoke.name]]


def test_rows_of_qat_and_pruning_take_their_own_models_and_budgets(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    save_checkpoint(tmp_path, dict(build_model(SMOKE).named_parameters()), SMOKE)
    names = ["INT6, no pruning", "INT6, LZMA", "INT6, trained without QAT"]
    arguments = [str(smoke / "shard_val_0.bin"), str(smoke), "--without-qat", str(tmp_path), "--windows", "2", "--json"]
    short = ["--set", "GPTQ_NUM_SEQS=2", "GPTQ_SEQ_LEN=16", "--only"]
    assert ablate.main([*arguments, "--budget", "1", *short, names[0]]) == 0
    budget = json.loads(capsys.readouterr().out)["bytes"] * 49 // 50
    kept = tmp_path / "kept"
    assert ablate.main([*arguments, "--keep", str(kept), "--budget", str(budget), *short, *names]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {row["ablation"]: row for row in rows}
    assert sorted(f.stat().st_size for f in kept.iterdir()) == sorted(row["bytes"] for row in rows)
    assert list(by_name) == names
    assert by_name["INT6, no pruning"]["pruned"] == 0 < by_name["INT6, LZMA"]["pruned"]
    assert by_name["INT6, no pruning"]["bytes"] > budget >= by_name["INT6, LZMA"]["bytes"]
    assert by_name["INT6, trained without QAT"]["model"] == tmp_path.name
    assert all(row["bpb"] == pytest.approx(row["nats"] / np.log(2) / 3, rel=1e-5) for row in rows)
    lines = ablate.summary([*rows, *(2 * [rows[2] | {"nats": math.nan, "lost mnats": math.nan, "note": "why"}])])
    assert lines[2]["sd"] == "-"
    assert lines[2]["note"] == "why"
    assert lines[0]["to the first"] == 0
    assert lines[1]["to the first"] == pytest.approx(1e3 * (rows[1]["nats"] - rows[0]["nats"]), abs=0.01)


@pytest.mark.parametrize("rd", [True, False])
def test_the_report_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rd: bool
) -> None:
    config = small_config(gptq_num_seqs=2, gptq_seq_len=32, quant_bits=8, quant_rd=rd)
    monkeypatch.setattr(report, "load_config", lambda environ, track: config)
    model = lively_model(config).float()
    save_checkpoint(tmp_path, dict(model.named_parameters()), config)
    (tmp_path / "shard.bin").write_bytes(bytes(1024) + (np.arange(600) % 64).astype("<u2").tobytes())
    made = package_model(model, config, 10**6, 1, lambda part, text: None)
    (tmp_path / "model.bin").write_bytes(made.data)
    (tmp_path / "code.bundle").write_bytes(bytes(321))
    measured = ["--checkpoint", str(tmp_path), "--shard", str(tmp_path / "shard.bin"), "--windows", "2"]
    assert report.main([str(tmp_path / "model.bin"), "--json", *measured]) == 0
    shown = json.loads(capsys.readouterr().out)
    roles = {row["role"]: row for row in shown["roles"]}
    integers = sum(row.get("integers", 0) for row in shown["roles"])
    assert integers == sum(m.codes.numel() for m in made.packed.matrices.values())
    assert roles["code"]["bytes"] == 321
    assert sum(row["bytes"] for row in shown["roles"]) == shown["bytes"] + 321 == len(made.data) + 321
    assert roles["scales"]["bytes"] > 0 < roles["small tensors"]["bytes"]
    assert sum(row.get("share", 0) for row in shown["roles"]) == pytest.approx(1, abs=0.02)
    whole = shown["lost mnats together"]
    packed = load_packed(made.data, config)
    windows = read_windows(tmp_path / "shard.bin", 2, config.eval_seq_len)
    before = mean_loss(model, windows)
    model.load_state_dict(packed.weights())
    assert whole == pytest.approx(1e3 * (mean_loss(model, windows) - before), abs=1e-3)
    assert {"shuffled rows", "role by role", "equal spreads"} <= set(shown["rows"][0])
    (tmp_path / "model.bin").write_bytes(made.data[:-1])
    assert report.main([str(tmp_path / "model.bin")]) == 2
    assert report.main([str(tmp_path / "none.bin")]) == 2
