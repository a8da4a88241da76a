"""Rounding is bounded whatever a logit is, C2 tells its precision, kept states fit or it is said who is at fault."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
import torch

from harness.clock.spans import Ledger
from harness.config.tracks import load_track
from harness.errors import CouldNotCheck, RuleBroken
from harness.record.predicate import Score
from harness.run import evaluate
from harness.run.evaluate import reserve_keeper
from harness.run.verdicts import score_findings
from harness.scoring.client import Hello
from harness.scoring.ledger import Stream
from harness.scoring.nll import PRECISION, row_nats, token_nats
from harness.scoring.nll import PRECISION_ON_DEVICE as ON_DEVICE
from harness.scoring.replay import rounding_nats


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("huge", [-1e30, 1e30, float("-inf"), float("nan"), 31.0])
@pytest.mark.rule("C1-CAUSAL")
def test_no_logit_makes_the_allowance_for_rounding_large(dtype: torch.dtype, huge: float):
    row = torch.tensor([1.0, huge, -3.0]).to(dtype)
    assert 0 <= rounding_nats(row) <= 4 * 32 * torch.finfo(dtype).eps


def test_rounding_of_common_logits_is_allowed_for():
    assert rounding_nats(torch.tensor([8.0, -2.0])) == 4 * 8 * torch.finfo(torch.float32).eps


@pytest.mark.rule("C2-NORMALISED")
def test_c2_states_the_precision_of_the_path_that_ran():
    """The sentence of a GPU's path speaks of float32 where that path differs from float64 by so much."""
    logits, targets = torch.randn(64, 500, generator=torch.Generator().manual_seed(0)) * 9, torch.arange(64)
    apart = (row_nats(logits, targets)[0] - token_nats(logits, targets)).abs().max().item()
    assert 1e-12 < apart < 1e-5
    score = Score("final", 1.0, 1, 1, 1.0, True, 1.0)
    for precision in (PRECISION, ON_DEVICE):
        (found,) = [f for f in score_findings(score, precision, val_targets=1, val_bytes=1) if f.rule.startswith("C2")]
        assert precision in found.message
    assert ("float32" in PRECISION, "float32" in ON_DEVICE) == (False, True)


def reserve(state_bytes, chunks, tmp_path, track="smoke", chunk_tokens=16):
    track = load_track(track)
    context = SimpleNamespace(
        track=track, audit_secret=bytes(32), run_dir=tmp_path, log_file=lambda cell: tmp_path / cell, oom_kills=10**9
    )
    hello = Hello(state_bytes, chunk_tokens, 16, torch.float32, on_device=False)
    client = SimpleNamespace(hello=hello, buffers=SimpleNamespace(state=torch.zeros(state_bytes, dtype=torch.uint8)))
    tokens = np.broadcast_to(np.arange(128, dtype=np.uint16), (1 << 15, 128)).ravel()  # as even as text never is
    return reserve_keeper(context, Stream(tokens, tokens[1:], chunk_tokens * chunks), client)


@pytest.mark.rule("S3-PROTOCOL")
def test_chunks_that_would_make_the_audits_last_for_days_are_refused_before_the_clock(tmp_path):
    """At 2,000 draws for each nat; the track's own limit of a chunk says what a submission may want elsewhere."""
    assert reserve(8, 1, tmp_path, "10min_16mb", chunk_tokens=131_072).states.shape == (1, 8)
    with pytest.raises(RuleBroken, match=r"chunks of 2,097,152 tokens; .* draws of the audits take chunks of at most"):
        reserve(8, 1, tmp_path, "10min_16mb", chunk_tokens=2_097_152)
    for track in ("one_gpu_120s", "smoke"):
        assert reserve(8, 1, tmp_path, track, chunk_tokens=load_track(track).limits.chunk_tokens)


def test_the_states_before_all_chunks_fit_into_the_track_or_the_submission_is_told(tmp_path):
    assert reserve(1000, 50, tmp_path).states.shape == (50, 1000)
    with pytest.raises(RuleBroken, match="the state before each, 8,000,000,000 bytes") as caught:
        reserve(1000, 8_000_000, tmp_path)
    assert "larger chunks, or less state" in caught.value.remedy


def test_want_of_memory_for_kept_states_is_the_machine_s(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    with pytest.raises(CouldNotCheck, match="10,000 bytes of memory free"):
        reserve(1000, 50, tmp_path)


@pytest.mark.rule("S4-STATE-DECLARED")
@pytest.mark.parametrize(("slower", "chunk_s"), [("packed", 160.0), ("final", 160.0), ("", 0.0)])
def test_a_replica_s_time_follows_from_the_slower_pace_whatever_the_chunks(tmp_path, monkeypatch, slower, chunk_s):
    """One large chunk that took minutes in the packed pass does not give every small chunk minutes as well."""
    keeper, nats = reserve(8, 4, tmp_path), np.ones(64)
    stream = Stream(np.arange(65, dtype=np.uint16), np.ones(64, np.uint8), 64)

    def passed(stage, chunk_tokens):
        score = Score(stage, 64.0, 64, 64, 1.0, True, 640.0 if stage == slower else 0.1)
        hello = Hello(8, chunk_tokens, 16, torch.float32, on_device=False)
        return evaluate.Evaluation(score, [], nats, "", hello, keeper)

    def run_replica(context, like, told, allowed_s, *_):
        raise RuleBroken("S3-PROTOCOL", f"{allowed_s}", remedy="")

    monkeypatch.setattr(evaluate, "run_replica", run_replica)
    context = SimpleNamespace(track=load_track("smoke"), clock=Ledger(), progress=MagicMock())
    told = evaluate.Told(900.0, 64)
    results = evaluate.audit(context, passed("final", 16), passed("packed", 64), stream, told)
    passes = context.progress.stage.call_args[0][1]
    assert f" {300.0 + max(600.0, 5 * passes * chunk_s)}" in next(r.message for r in results if r.rule.startswith("S4"))
