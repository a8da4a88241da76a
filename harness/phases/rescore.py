"""Level 2 of verification: score a random part of the validation set again, from the artifact alone, and compare.

The part always starts at the front, because the predictor's state at a chunk follows from all chunks before it; its
length is drawn at random among the points of the record's running score. What is not covered: the text behind it.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from harness.cli.progress import Reporter
from harness.clock.spans import Ledger
from harness.config.environment import cache_dir, runs_dir
from harness.config.tracks import load_track
from harness.data import Dataset, load_validation, open_dataset
from harness.errors import CouldNotCheck
from harness.phases.context import RunContext
from harness.phases.evaluate import eval_cell, failures_named, warm_up
from harness.phases.manifest import read_manifest
from harness.phases.reserve import reserved
from harness.phases.seal import SealedSubmission, unpack_sealed
from harness.protocol.container import read_container
from harness.record.predicate import RunRecord
from harness.record.reproduce import environment_for
from harness.rules import Finding, Verdict
from harness.scoring.audit import MEAN_NATS
from harness.scoring.ledger import ScoreLedger, Stream
from harness.scoring.loop import score_stream

RULE = "R6-REPRODUCED"
STAGE = "rescore"
MAX_CODE_BYTES = 65_000_000


def rescore(record: RunRecord, artifact: Path, environ: Mapping[str, str], progress: Reporter) -> Finding:
    """Score the front of the validation set again, up to a random point of ``record.running_bpb``.

    artifact: folder with the record's ``model.bin`` and ``code.bundle``, already checked against its digests
    Raises ``CouldNotCheck`` when track or data are not those of the record, ``RuleBroken`` when the artifact fails.
    """
    track = load_track(record.track.name)
    if track.digest != record.track.digest:
        raise CouldNotCheck(f"track {track.name} has changed since the record.", remedy="Use the record's version.")
    if not record.running_bpb:
        raise CouldNotCheck(
            f"record {record.run_id} holds no running score to compare with.",
            remedy="Leave --rescore out; `harness rerun` repeats the whole run.",
        )
    with reserved(track.hardware, f"track {track.name}"):
        dataset = _dataset(record, progress)
        runs_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rescore-", dir=runs_dir()) as scratch:
            run_dir = Path(scratch)
            sealed = _sealed(artifact, run_dir)
            own = environment_for(record, sealed.manifest.env.accept, environ)
            context = RunContext(
                track, record.submission.seed, run_dir, sealed, own, progress, Ledger(), bos_id=dataset.bos_id
            )
            targets = secrets.choice(record.running_bpb)[0]
            found = _score_front(context, record, dataset, targets)
    return _judge(record, dict(found), min(track.audit.tolerance_nats, MEAN_NATS))


def _dataset(record: RunRecord, progress: Reporter) -> Dataset:
    dataset = open_dataset(record.data.name, cache_dir() / "datasets", progress)
    if dataset.fingerprint != record.data.fingerprint:
        raise CouldNotCheck(
            f"data set {dataset.name} is {dataset.fingerprint[:16]}… here and {record.data.fingerprint[:16]}… in the "
            "record.",
            remedy="`harness data` shows what is cached; build the record's data set.",
        )
    return dataset


def _sealed(artifact: Path, run_dir: Path) -> SealedSubmission:
    bundle = (artifact / "code.bundle").read_bytes()
    files = read_container(bundle, max_unpacked_bytes=MAX_CODE_BYTES)
    unpack_sealed(bundle, run_dir / "closure" / "code")
    (run_dir / "closure" / "model.bin").write_bytes((artifact / "model.bin").read_bytes())
    return SealedSubmission(
        manifest=read_manifest(files, "code.bundle"),
        root=run_dir / "closure" / "code",
        bundle=artifact / "code.bundle",
        bundle_bytes=len(bundle),
        raw_bytes=sum(map(len, files.values())),
        code_digest=hashlib.sha256(bundle).hexdigest(),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )


def _score_front(context: RunContext, record: RunRecord, dataset: Dataset, targets: int) -> list[tuple[int, float]]:
    """The running score up to ``targets``. The worker is told what the run's own worker was: all targets, its limit."""
    validation = load_validation(dataset)
    limit_s = next((s.limit_s for s in record.spans if s.name == "eval" and s.limit_s), context.track.limits.eval_s)
    stream = Stream(validation.tokens, validation.target_bytes, targets)
    with eval_cell(context, "final", STAGE, limit_s=limit_s, targets=record.data.val_targets) as (cell, client):
        warm_up(context, client, cell, STAGE, span="warmup")
        ledger = ScoreLedger(stream)
        allowed_s = max(600.0, 4 * limit_s)
        deadline_ns = time.monotonic_ns() + int(allowed_s * 1e9)
        with (
            context.progress.stage(STAGE, targets, "targets") as shown,
            failures_named(context, STAGE, cell, client, deadline_ns, allowed_s),
        ):
            client.start()
            score_stream(
                client,
                stream,
                ledger,
                chunk_tokens=client.hello.chunk_tokens,
                adapt=True,
                committed=lambda done: shown.update(done),
            )
            client.stop()
    return ledger.running_bpb()


def _judge(record: RunRecord, found: dict[int, float], tolerance_nats: float) -> Finding:
    """Compare at every point that both have. The tolerance is the audits' for a mean: nats a token, turned into bpb."""
    final = next(score for score in record.scores if score.stage == "final")
    tolerance = tolerance_nats * final.targets / final.bytes / math.log(2)
    pairs = [(place, bpb, found[place]) for place, bpb in record.running_bpb if place in found]
    if not pairs:
        return Finding(RULE, Verdict.ERROR, "the chunks of the run and of the second scoring end at different places")
    place, recorded, now = max(pairs, key=lambda pair: abs(pair[2] - pair[1]))
    agrees = abs(now - recorded) <= tolerance
    text = (
        f"{pairs[-1][0]:,} targets scored again, {len(pairs)} points compared; largest difference at target {place:,}: "
        f"{recorded:.6f} bpb recorded, {now:.6f} now ({now - recorded:+.2e}, tolerance {tolerance:.1e})"
    )
    return Finding(RULE, Verdict.PASS if agrees else Verdict.FAIL, text)
