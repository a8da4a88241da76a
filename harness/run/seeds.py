"""Several seeds as one job: ``make submit SEEDS="1337 42 2025"`` runs what is missing and goes on with what broke off.

A seed that has a record of ours which verifies, of the same track, code, configuration and data, is not run again,
whether its run was good or broke a rule: running it until it looks better would be a choice among results. A seed whose
training ended in an interrupted run goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.tracks import load_track
from harness.config.variables import cache_dir, check_environment, keys_dir, runs_dir
from harness.data import open_dataset
from harness.errors import CouldNotCheck
from harness.progress import Reporter
from harness.record import canonical_digest, verify_folder
from harness.record.predicate import RunRecord
from harness.rules import Verdict
from harness.run.reserve import reserved
from harness.run.resume import CannotGoOn, resume_run
from harness.run.run import describe_submission
from harness.run.submit import RunOutcome, new_run_dir, submit_run
from harness.run.trained import FILE_NAME, recall


@dataclass(frozen=True)
class Identity:
    """What runs must share to be seeds of one thing; digests are SHA-256 in hex."""

    track_digest: str
    code_digest: str
    config_digest: str
    data_fingerprint: str


def submit_seeds(
    *,
    submission_dir: Path,
    track_name: str,
    dataset_name: str | None,
    seeds: Sequence[int],
    environ: Mapping[str, str],
    records_dir: Path,
    progress: Reporter,
    finished: Callable[[RunOutcome], None],
    again: bool = False,
) -> list[RunOutcome]:
    """Run each seed in turn; ``finished`` is called after each run, so that a later failure loses no earlier result.

    again: run every seed, also one that has a record
    """
    done: dict[int, RunOutcome] = {}
    broken_off: dict[int, str] = {}
    if not again:
        found = _earlier(records_dir, seeds)
        if found or _interrupted(seeds):
            identity = _identify(submission_dir, track_name, dataset_name, seeds[0], environ, progress)
            done = {seed: outcome for seed, outcome in found if _identity_of(outcome.record) == identity}
            broken_off = {seed: name for seed, name, whose in _interrupted(seeds) if whose == identity}
    outcomes = []
    for seed in seeds:
        if seed in done:
            progress.note(f"seed {seed} has its record already: {done[seed].path}")
            outcomes.append(done[seed])
            continue
        outcome = _resumed(broken_off[seed], records_dir, progress) if seed in broken_off else None
        if outcome is None:
            outcome = submit_run(
                submission_dir=submission_dir,
                track_name=track_name,
                dataset_name=dataset_name,
                seed=seed,
                environ=environ,
                records_dir=records_dir,
                progress=progress,
            )
        finished(outcome)
        outcomes.append(outcome)
    return outcomes


def _earlier(records_dir: Path, seeds: Sequence[int]) -> list[tuple[int, RunOutcome]]:
    """Sound records of these seeds under a key that is here, the newest first.

    So the first of a seed that was repeated ends up last. Somebody else's record of a seed does not stand for ours.
    """
    if not records_dir.is_dir():
        return []
    report = verify_folder(records_dir, judge_runs=False)
    own = {path.stem for path in keys_dir().glob("*.pem")}
    sound = [
        (entry.path, entry.record)
        for entry in report.records
        if entry.verdict is not Verdict.FAIL and entry.entry is not None and entry.entry.signer in own
    ]
    return [
        (record.submission.seed, RunOutcome(record, path, runs_dir() / record.run_id))
        for path, record in reversed(sound)
        if record is not None and record.submission.seed in seeds
    ]


def _interrupted(seeds: Sequence[int]) -> list[tuple[int, str, Identity]]:
    """[seed, run, identity] of runs that broke off after their training, oldest first."""
    found = []
    for path in sorted(runs_dir().glob(f"*/{FILE_NAME}")):
        try:
            trained = recall(path.parent)
        except CouldNotCheck:
            continue
        if trained.seed in seeds:
            config = canonical_digest(trained.config)
            whose = Identity(trained.track_digest, trained.code_digest, config, trained.data_fingerprint)
            found.append((trained.seed, path.parent.name, whose))
    return found


def _identity_of(record: RunRecord) -> Identity:
    run = record.submission
    return Identity(record.track.digest, run.code_digest, run.config_digest, record.data.fingerprint)


def _identify(
    submission_dir: Path,
    track_name: str,
    dataset_name: str | None,
    seed: int,
    environ: Mapping[str, str],
    progress: Reporter,
) -> Identity:
    """The identity that a run would have now: the describe phase in a folder of its own, which is removed again."""
    check_environment(environ)
    track = load_track(track_name)
    with reserved(track.hardware, f"track {track.name}"):
        dataset = open_dataset(dataset_name or track.dataset, cache_dir() / "datasets", progress)
        folder = new_run_dir(track.name, seed)
        try:
            described = describe_submission(
                submission_dir=submission_dir,
                track=track,
                seed=seed,
                run_dir=folder,
                environ=environ,
                progress=progress,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    config = canonical_digest(described.config)
    return Identity(track.digest, described.code_digest, config, dataset.fingerprint)


def _resumed(run: str, records_dir: Path, progress: Reporter) -> RunOutcome | None:
    """The outcome of a run that broke off, or ``None`` with a note when it can't go on."""
    try:
        return resume_run(run, records_dir=records_dir, progress=progress)
    except CannotGoOn as error:
        progress.note(f"{run} can't go on ({error.message}); the seed starts again")
        return None
