"""The table of ablations, through its command."""

import json
import math
from pathlib import Path

import ablate
import numpy as np
import pytest
import torch

from submission.checkpoint import save_checkpoint
from submission.config import load_config
from submission.model.hybrid import build_model

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
