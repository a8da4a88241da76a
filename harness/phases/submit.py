"""One run from a submission folder to a signed record: what ``make submit`` does for each seed.

Order: environment, track → reservation → data → seal, describe → signed intent → phases, audits → signed record.
The intent is stored before training starts, so a run that is never reported stays visible (rule R5-INTENT).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.artifact.bundle import read_folder
from harness.cli.progress import Reporter
from harness.config.environment import cache_dir, check_environment, keys_dir, runs_dir
from harness.config.tracks import Track, load_track
from harness.data import Dataset, open_dataset
from harness.phases.conditions import FOREIGN_SHARE, busy_now
from harness.phases.manifest import check_variables, read_manifest
from harness.phases.reserve import going_on, reserved
from harness.phases.run import Described, describe_submission, run_submission
from harness.phases.trained import forget
from harness.record import Intent, announce, canonical_digest, open_signing_key, sign_and_store, utc_now
from harness.record.predicate import RunRecord
from harness.rules import Verdict


@dataclass(frozen=True)
class RunOutcome:
    """A finished run: the record, where its signed form lies (``None`` when unsigned), and its folder of files."""

    record: RunRecord
    path: Path | None
    run_dir: Path

    @property
    def broken(self) -> bool:
        """Whether a rule is broken."""
        return any(finding.verdict is Verdict.FAIL for finding in self.record.findings)


def submit_run(
    *,
    submission_dir: Path,
    track_name: str,
    seed: int,
    environ: Mapping[str, str],
    records_dir: Path,
    progress: Reporter,
    dataset_name: str | None = None,
    sign: bool = True,
    quick: bool = False,
) -> RunOutcome:
    """One refereed run. ``sign=False`` (a reviewer's rerun, or a try) announces and stores nothing.

    quick: cut it short; for a try alone
    Raises ``UsageError`` before anything starts, ``RuleBroken`` or ``CouldNotCheck`` when the run ends without a score.
    """
    assert not (sign and quick)
    check_environment(environ)
    track = load_track(track_name).quick() if quick else load_track(track_name)
    if sign:
        track.refuse_when_closed(utc_now())
    files = read_folder(submission_dir)
    check_variables(read_manifest(files, str(submission_dir)), environ, files)
    with reserved(track.hardware, f"track {track.name}"):
        warn_of_neighbours(progress)
        if sign:
            open_signing_key(keys_dir(), records_dir)  # a wrong mode or passphrase must stop the run before training
        dataset = open_dataset(dataset_name or track.dataset, cache_dir() / "datasets", progress)
        dataset.require_vocab(track.vocab_size, f"track {track.name}")
        run_dir = new_run_dir(track.name, seed)
        with going_on(run_dir):
            described = describe_submission(
                submission_dir=submission_dir,
                track=track,
                seed=seed,
                run_dir=run_dir,
                environ=environ,
                progress=progress,
            )
            intent = _intent(run_dir, track, described, dataset, seed)
            digest = announce(intent, records_dir, keys_dir()) if sign else ""
            record = run_submission(
                described=described, dataset=dataset, intent_digest=digest, predecessor="", quick=quick
            )
            if not sign:
                return RunOutcome(record, None, run_dir)
            stored = sign_and_store(record, run_dir / "artifact", records_dir, keys_dir())
            forget(run_dir)
    return RunOutcome(stored.record, stored.path, run_dir)


def warn_of_neighbours(progress: Reporter) -> None:
    """Look at the machine for a second, before anything is paid for."""
    taken = busy_now()
    if taken > FOREIGN_SHARE:
        progress.note(
            f"WARNING: other processes take {taken:.0%} of this machine's processors (load {os.getloadavg()[0]:.1f}). "
            "Clocks show real time: expect a worse score and a longer run."
        )


def new_run_dir(track_name: str, seed: int) -> Path:
    """Create a fresh, private run folder whose name nobody else has."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    base = runs_dir()
    base.mkdir(parents=True, exist_ok=True)
    while True:
        path = base / f"{stamp}-{track_name}-{seed}-{os.urandom(3).hex()}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path


def _intent(run_dir: Path, track: Track, described: Described, dataset: Dataset, seed: int) -> Intent:
    return Intent(
        run_id=run_dir.name,
        announced_at=utc_now(),
        track=track.name,
        track_digest=track.digest,
        submission=described.name,
        code_digest=described.code_digest,
        config_digest=canonical_digest(described.config),
        data_fingerprint=dataset.fingerprint,
        seed=seed,
        audit_commitment=hashlib.sha256(described.context.audit_secret).hexdigest(),
    )
