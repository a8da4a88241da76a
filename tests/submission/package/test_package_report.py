"""The size report and the table of ablations, through their commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import lively_model, small_config

from submission.checkpoint import save_checkpoint
from submission.config import load_config
from submission.model.hybrid import build_model
from submission.package import ablate, report
from submission.package.pack import package_model

SMOKE = load_config({"RECIPE": "smoke"}, "smoke")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model(SMOKE)
    folder = tmp_path_factory.mktemp("smoke")
    save_checkpoint(folder, dict(model.named_parameters()), SMOKE)
    shard = np.random.default_rng(0).integers(0, 1024, 2000).astype("<u2")
    (folder / "shard.bin").write_bytes(bytes(1024) + shard.tobytes())
    return folder


def test_ablations_are_measured_and_summed_up(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = str(smoke / "shard.bin")
    only = ["--only", "INT6, percentile search", "rd, train tokens"]
    code = ablate.main([str(smoke), shard, "--budget", "400000", "--windows", "2", *only])
    out = capsys.readouterr().out
    assert code == 0
    assert "INT6, percentile search" in out
    assert "CALIBRATION_SOURCE=train" in out  # the checkpoint has no train tokens, and the row says so
    assert ablate.main([str(smoke / "none"), shard, "--budget", "1"]) == 2


def test_the_report_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(gptq_num_seqs=2, gptq_seq_len=32, quant_bits=8)
    monkeypatch.setattr(report, "load_config", lambda environ, track: config)
    made = package_model(
        lively_model(config).float(), config, 10**6, 1, lambda: torch.zeros(1), lambda part, text: None
    )
    (tmp_path / "model.bin").write_bytes(made.data)
    assert report.main([str(tmp_path / "model.bin"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert sum(row["integers"] for row in shown["roles"]) == sum(m.codes.numel() for m in made.packed.matrices.values())
    assert 0 < sum(row["bytes"] for row in shown["roles"]) < shown["bytes"] == len(made.data)
    assert {"shuffled rows", "role by role", "equal spreads"} <= set(shown["rows"][0])
    (tmp_path / "model.bin").write_bytes(made.data[:-1])
    assert report.main([str(tmp_path / "model.bin")]) == 2
