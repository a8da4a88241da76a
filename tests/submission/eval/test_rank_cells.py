"""Several ranks in the referee's own eval cells: the score of one, audited by replicas of as many, in the sandbox."""

from pathlib import Path

import lab
import pytest
import torch
from faulty import faulty_submission

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.errors import RuleBroken
from harness.progress import Silent
from harness.run import evaluate as evaluation
from harness.run.artifact import seal_submission, unpack_sealed
from harness.run.cells import RunContext, phase_cell
from harness.run.evaluate import Told, audit
from harness.scoring.ledger import Stream
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
    """A run of the submission as it is."""
    return ready_to_evaluate(ROOT / "submission", tmp_path)


def told(stream: Stream) -> Told:
    return Told(100.0, stream.targets)


def ready_to_evaluate(submission: Path, tmp_path: Path) -> RunContext:
    """A run whose training and packaging are over: a small model with random weights, sealed with its code."""
    config = load_config(SMALL, "smoke")
    torch.manual_seed(0)
    made = package_model(build_model(config), config, 1_000_000, 1, lambda *_: None)
    sealed = seal_submission(submission, tmp_path)
    unpack_sealed(sealed.bundle.read_bytes(), tmp_path / "closure" / "code")
    (tmp_path / "closure" / "model.bin").write_bytes(made.data)
    return RunContext(load_track("smoke"), 1, tmp_path, sealed, SMALL, Silent(), Ledger())


@pytest.mark.slow
def test_two_ranks_score_what_one_scores_and_pass_the_audits(context: RunContext, monkeypatch) -> None:
    stream = lab.markov_stream(vocab_size=1024, targets=1_000)
    started: list[int] = []

    def counted(*arguments, **options):
        started.append(options["ranks"])
        return phase_cell(*arguments, **options)

    monkeypatch.setattr(evaluation, "phase_cell", counted)
    nats = []
    for ranks in (1, 2):
        monkeypatch.setattr(Track, "ranks", property(lambda _, ranks=ranks: ranks))
        result = evaluation.evaluate(context, "final", stream, told(stream), whole_set=True)
        (context.run_dir / "ledger.jsonl").unlink()
        nats.append(result.score.nats)
    assert nats[1] == pytest.approx(nats[0], rel=1e-5)
    verdicts = {found.rule: found.verdict for found in audit(context, result, result, stream, told(stream))}
    assert verdicts == {"C1-CAUSAL": "PASS", "S4-STATE-DECLARED": "PASS", "S5-DETERMINISM": "PASS"}
    assert started == [1, 2, 2, 2], "replicas have as many ranks as the run"
    assert all(report.survivors == 0 for _, report in context.kills)
    if context.isolation["hard_kill"].how.startswith("PID namespace"):
        assert context.isolation["network"].how == "a network namespace with its own loopback"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "fault", "victim", "words"),
    [
        ("adapt", "killed", 2, "final: rank 2 was killed by signal 9"),
        ("score", "killed", 0, "final: rank 0 was killed by signal 9"),
        ("score", "out of memory", 1, "final: rank 1 says: MemoryError"),
    ],
)
def test_the_rank_that_fails_is_named_and_not_those_that_lose_it(
    place: str, fault: str, victim: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Track, "ranks", property(lambda _: 3))
    context = ready_to_evaluate(faulty_submission(tmp_path, "eval", place, fault, victim), tmp_path)
    stream = lab.markov_stream(vocab_size=1024, targets=1_000)
    with pytest.raises(RuleBroken) as caught:
        evaluation.evaluate(context, "final", stream, told(stream), whole_set=True)
    assert caught.value.rule == "S3-PROTOCOL"
    assert caught.value.message.startswith(words)
    assert caught.value.remedy
    assert [report.survivors for _, report in context.kills] == [0]


@pytest.mark.slow
def test_a_rank_that_starts_late_changes_nothing(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Track, "ranks", property(lambda _: 2))
    stream, folder = lab.markov_stream(vocab_size=1024, targets=1_000), tmp_path / "late"
    folder.mkdir()
    late = ready_to_evaluate(faulty_submission(folder, "eval", "start", "late", 1), folder)
    scores = [evaluation.evaluate(run, "final", stream, told(stream), whole_set=True).score for run in (context, late)]
    assert scores[0].nats == scores[1].nats
