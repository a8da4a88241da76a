"""Level 2 of verification: score a random part of the validation set again, from the artifact alone; compare and audit.

The part always starts at the front, because the predictor's state at a chunk follows from all chunks before it; its
length is drawn evenly over the text, up to the next point of the record's running score. What is not covered: the text
behind it.
"""

import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.config.tracks import load_track
from harness.config.variables import cache_dir, runs_dir
from harness.data import load_validation, open_dataset
from harness.errors import CouldNotCheck, RuleBroken
from harness.progress import Reporter
from harness.protocol.session import MODEL_FILE
from harness.record.predicate import MEAN_NATS, RunRecord
from harness.record.reproduce import environment_for
from harness.rules import Finding, Verdict
from harness.run.artifact import BUNDLE_FILE, sealed_at
from harness.run.cells import RunContext
from harness.run.evaluate import Told, audit, compile_once, evaluate
from harness.run.reserve import reserved
from harness.scoring.ledger import Stream
from harness.units import LN2

RULE = "R6-REPRODUCED"


def rescore(record: RunRecord, artifact: Path, environ: Mapping[str, str], progress: Reporter) -> list[Finding]:
    """Score the front of the validation set again, up to a random point of ``record.running_bpb``, and audit that pass.

    artifact: folder with the record's ``model.bin`` and ``code.bundle``, already checked against its digests
    Raises ``CouldNotCheck`` when track or data are not those of the record, ``RuleBroken`` when the artifact fails.
    """
    track = load_track(record.track.name)
    if track.digest != record.track.digest:
        raise CouldNotCheck(f"track {track.name} has changed since the record.", remedy="Use the record's version.")
    if not record.running_bpb:
        words = f"record {record.run_id} holds no running score to compare with."
        raise CouldNotCheck(words, remedy="Leave --rescore out; `harness rerun` repeats the whole run.")
    with reserved(track.hardware, f"track {track.name}"):
        dataset = open_dataset(record.data.name, cache_dir() / "datasets", progress)
        if dataset.fingerprint != record.data.fingerprint:
            here, there = dataset.fingerprint[:16], record.data.fingerprint[:16]
            text = f"data set {dataset.name} is {here}… here and {there}… in the record."
            raise CouldNotCheck(text, remedy="`harness data` shows what is cached; build the record's data set.")
        if (record.data.val_targets, record.data.val_bytes) != (dataset.val_tokens - 1, dataset.val_bytes):
            text = f"the record is over {record.data.val_targets:,} targets; the text has {dataset.val_tokens - 1:,}."
            raise RuleBroken("C4-COVERAGE", text, remedy="Score all of it.")
        runs_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rescore-", dir=runs_dir()) as scratch:
            run_dir = Path(scratch)
            sealed = sealed_at(artifact / BUNDLE_FILE, run_dir / "code")
            own = environment_for(record, sealed.manifest.env.accept, environ)
            context = RunContext(track, record.submission.seed, run_dir, sealed, own, progress, bos_id=dataset.bos_id)
            context.artifact_dir.mkdir()
            shutil.copyfile(artifact / MODEL_FILE, context.artifact_dir / MODEL_FILE)
            context.data_dir, validation = dataset.folder, load_validation(dataset)
            # The worker is told what the run's own worker was: all targets, and the run's limit.
            most_s = track.limits.eval_s
            limit_s = min(most_s, next((s.limit_s for s in record.spans if s.name == "eval" and s.limit_s), most_s))
            told = Told(limit_s, record.data.val_targets)
            stream = Stream(validation.tokens, validation.target_bytes, drawn_part(record))
            compile_once(context, told)
            front = evaluate(context, "final", stream, told, allowed_s=max(600.0, 4 * limit_s))
            # gains are drawn over the tokens' frequencies alone: a second pass of the packed model doubles the time
            audits = audit(context, front, front, stream, told)
    agreement = _judge(record, dict(front.running_bpb), min(track.audit.tolerance_nats, MEAN_NATS))
    # An audit that failed counts as what it is here: a record that is not reproduced.
    said = ((Verdict(a.verdict), f"{a.rule} {a.name} in the second scoring: {a.message}") for a in audits)
    return [agreement, *(Finding(RULE, *found) for found in said)]


def drawn_part(record: RunRecord) -> int:
    """A place drawn evenly over the text, up to the record's next point: its signer chose the points, not the draw."""
    place = 1 + secrets.randbelow(max(1, record.data.val_targets))
    return next((point for point, _ in record.running_bpb if point >= place), record.running_bpb[-1][0])


def _judge(record: RunRecord, found: dict[int, float], tolerance_nats: float) -> Finding:
    """Compare at every point that both have. The tolerance is the audits' for a mean: nats a token, turned into bpb."""
    final = next(score for score in record.scores if score.stage == "final")
    tolerance = tolerance_nats * final.targets / final.bytes / LN2
    if not (pairs := [(place, bpb, found[place]) for place, bpb in record.running_bpb if place in found]):
        return Finding(RULE, Verdict.ERROR, "the chunks of the run and of the second scoring end at different places")
    place, recorded, now = max(pairs, key=lambda pair: abs(pair[2] - pair[1]))
    text = (
        f"{pairs[-1][0]:,} targets scored again, {len(pairs)} points compared; largest difference at target {place:,}: "
        f"{recorded:.6f} bpb recorded, {now:.6f} now ({now - recorded:+.2e}, tolerance {tolerance:.1e})"
    )
    return Finding(RULE, Verdict.PASS if abs(now - recorded) <= tolerance else Verdict.FAIL, text)
