"""Several ranks in the referee's own eval cells: the score of one, audited by replicas of as many, in the sandbox."""

from pathlib import Path

import lab
import pytest
import torch

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.progress import Reporter
from harness.run import evaluate as evaluation
from harness.run.artifact import seal_submission
from harness.run.cells import RunContext, phase_cell
from harness.run.evaluate import Told, audit
from submission.config import load_config
from submission.model.hybrid import build_model
from submission.package.pack import package_model

ROOT = Path(__file__).parents[3]
SMALL = {
    "MODEL_DIM": "32", "NUM_LAYERS": "2", "MAMBA3_HEADDIM": "16", "MAMBA3_D_STATE": "16", "USE_GPTQ": "0",
    "QUANT_RD": "0", "EVAL_SEQ_LEN": "64", "EVAL_MODE": "overlap", "EVAL_OVERLAP": "16",
    "TTT_CHUNK_WINDOWS": "6", "EVAL_CACHE_SLOTS": "512",
}  # fmt: skip


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    """A run whose training and packaging are over: a small model with random weights, sealed with its code."""
    config = load_config(SMALL, "smoke")
    torch.manual_seed(0)
    made = package_model(build_model(config), config, 1_000_000, 1, lambda *_: None)
    sealed = seal_submission(ROOT / "submission", tmp_path)
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "model.bin").write_bytes(made.data)
    return RunContext(load_track("smoke"), 1, tmp_path, sealed, SMALL, Reporter(), Ledger())


@pytest.mark.slow
def test_two_ranks_score_what_one_scores_and_pass_the_audits(context: RunContext, monkeypatch) -> None:
    stream, told = lab.markov_stream(vocab_size=1024, targets=1_000), Told(100.0, 1_000)
    started: list[int] = []

    def counted(*arguments, **options):
        started.append(options["ranks"])
        return phase_cell(*arguments, **options)

    monkeypatch.setattr(evaluation, "phase_cell", counted)
    nats = []
    for ranks in (1, 2):
        monkeypatch.setattr(Track, "ranks", property(lambda _, ranks=ranks: ranks))
        result = evaluation.evaluate(context, "final", stream, told)
        nats.append(result.score.nats)
    assert nats[1] == pytest.approx(nats[0], rel=1e-5)
    verdicts = {found.rule: found.verdict for found in audit(context, result, result, stream, told)}
    assert verdicts == {"C1-CAUSAL": "PASS", "S4-STATE-DECLARED": "PASS", "S5-DETERMINISM": "PASS"}
    assert started == [1, 2, 2, 2], "replicas have as many ranks as the run"
    assert all(report.survivors == 0 for report in context.kills)
    if context.isolation["hard_kill"].how.startswith("PID namespace"):
        assert context.isolation["network"].how == "a network namespace with its own loopback"
