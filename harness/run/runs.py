"""From a submission folder to signed records: one run, one that broke off, or several seeds as one job.

One run: environment, track → reservation → data → seal, describe → signed intent → phases, audits → signed record. The
intent is stored before training starts, so a run that is never reported stays visible [R5-INTENT].

``resume_run`` goes on from a whole checkpoint or a packed model after a phase that failed, a referee that was killed, a
full disk, a power cut after training. Not covered: training itself: a clock that stopped in the middle can't be trusted
any more, so such a run starts again.

``submit_seeds`` runs what is missing and goes on with what broke off. A seed that has a record of ours which verifies,
of the same track, code, configuration and data, is not run again, whether its run was good or broke a rule: running it
until it looks better would be a choice among results.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.config.variables import cache_dir, check_environment, keys_dir, runs_dir
from harness.data import Dataset, open_dataset
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import remove_tree
from harness.progress import Reporter
from harness.protocol.session import MODEL_FILE
from harness.record import (
    Intent,
    announce,
    canonical_digest,
    check_announcer,
    file_digest,
    load_records,
    open_signing_key,
    sign_and_store,
    utc_now,
    verify_folder,
)
from harness.record.predicate import RunRecord
from harness.rules import Verdict
from harness.run.artifact import BUNDLE_FILE, read_folder, sealed_at
from harness.run.cells import Resumed, RunContext
from harness.run.machine import FOREIGN_SHARE, busy_now, describe_machine
from harness.run.manifest import check_variables, read_manifest
from harness.run.refereed import (
    TRAINED_FILE,
    Described,
    Trained,
    checkpoint_digests,
    clear_half_written,
    describe_submission,
    forget,
    recall,
    run_submission,
    update,
)
from harness.run.reserve import going_on, reserved

NEWEST = "newest"
_AGAIN = "Start again with `make submit`."


class CannotGoOn(CouldNotCheck):
    """What is kept of the run is not sound, or does not fit this machine any more: it has to start again."""


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
            intent = Intent(
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


def resume_run(
    run: str, *, records_dir: Path, progress: Reporter, seed: int | None = None, track: str | None = None
) -> RunOutcome:
    """Continue the run called ``run`` (its id, its folder, or "newest") after its training.

    seed, track: what the run must be of, where that was said; "newest" is the newest such run that can go on
    Raises ``UsageError`` for a run that is unknown or still goes on, ``CouldNotCheck`` with the reason when something
    is not sound any more.
    """
    run_dir = find_run(run, seed, track)
    recall(run_dir)  # in a folder that is no such run nothing is written
    with going_on(run_dir):
        trained = recall(run_dir)
        terms = load_track(trained.track)
        with reserved(terms.hardware, f"track {terms.name}"):
            try:
                check_announcer(trained.intent, trained.started_at, records_dir, keys_dir())
                dataset = open_dataset(trained.dataset, cache_dir() / "datasets", progress)
                _refuse_changes(trained, terms, dataset, records_dir, progress)
                # Stored before anything is repeated: a run that dies again does not lose count.
                ended = trained.ended or "the referee ended without a word"
                resumes = [*trained.resumes, Resumed(utc_now(), trained.reached, ended)]
                update(run_dir, resumes=resumes, reached="packaging or evaluation", ended="")
                described = _reopen(run_dir, recall(run_dir), terms, progress)
            except (CouldNotCheck, RuleBroken) as error:  # the latter: another records folder announced it, say
                raise CannotGoOn(error.message, remedy=error.remedy) from None
            progress.note(f"{run_dir.name}: going on with {'evaluation' if trained.model else 'packaging'}")
            record = run_submission(
                described=described,
                dataset=dataset,
                intent_digest=trained.intent,
                predecessor="",
                loss_curve=trained.loss_curve,
            )
            stored = sign_and_store(record, run_dir / "artifact", records_dir, keys_dir())
            forget(run_dir)
    return RunOutcome(stored.record, stored.path, run_dir)


def find_run(run: str, seed: int | None = None, track: str | None = None) -> Path:
    """The folder of a run, of ``seed`` and ``track`` where given. Raises ``UsageError`` when there is none."""
    base = runs_dir()

    def fits(run_dir: Path) -> bool:
        try:
            trained = recall(run_dir)
        except CouldNotCheck:
            return False
        return seed in (None, trained.seed) and track in (None, trained.track)

    wanted = " and ".join(f"{name} {value}" for name, value in (("seed", seed), ("track", track)) if value is not None)
    if run not in ("", "1", NEWEST):
        for path in (base / run, Path(run)):
            if path.is_dir():
                if wanted and not fits(path):
                    raise UsageError(f"run {path.name} is not of {wanted}.", remedy="Leave out SEED and TRACK.")
                return path.absolute()
        raise UsageError(f"there is no run {run!r} in {base}.", remedy="Name a folder of it, or leave the name out.")
    folders = sorted(path for path in base.glob("*") if path.is_dir())
    whole = [path for path in folders if (path / TRAINED_FILE).is_file()]
    found = [path for path in (whole if wanted else whole or folders) if not wanted or fits(path)]
    if not found:
        words = f"no run of {wanted} that can go on" if wanted else "no run"
        raise UsageError(f"there is {words} in {base}.", remedy="`make submit` starts one.")
    return found[-1]


def _refuse_changes(trained: Trained, track: Track, dataset: Dataset, records_dir: Path, progress: Reporter) -> None:
    machine = describe_machine()
    differences = {
        "the track": track.digest != trained.track_digest,
        "the data set": dataset.fingerprint != trained.data_fingerprint,
        "the processor": machine.cpu != trained.machine.cpu,
        "the list of GPUs": machine.gpus != trained.machine.gpus,
        "a package or Python": (machine.python, machine.packages) != (trained.machine.python, trained.machine.packages),
    }
    changed = [name for name, differs in differences.items() if differs]
    if changed:
        raise CouldNotCheck(f"since the training {' and '.join(changed)} changed.", remedy=_AGAIN)
    for stored in load_records(records_dir, skipped=progress.note):
        if stored.record.intent == trained.intent:
            raise CouldNotCheck(f"the run has its result already: {stored.path}.", remedy="`harness verify` checks it.")


def _reopen(run_dir: Path, trained: Trained, track: Track, progress: Reporter) -> Described:
    bundle = run_dir / BUNDLE_FILE
    if not bundle.is_file() or hashlib.sha256(bundle.read_bytes()).hexdigest() != trained.code_digest:
        raise CouldNotCheck(f"{bundle} is not the code that was announced.", remedy=_AGAIN)
    clear_half_written(run_dir)
    remove_tree(run_dir / "code")
    context = RunContext(
        track,
        trained.seed,
        run_dir,
        sealed_at(bundle, run_dir / "code"),
        trained.environ,
        progress,
        Ledger(earlier=trained.spans),
        dict(trained.isolation),
        list(trained.kills),
        audit_secret=bytes.fromhex(trained.audit_secret),
        resumes=trained.resumes,
        training=trained.training,
    )
    packed = context.artifact_dir / MODEL_FILE
    if trained.model and not (packed.is_file() and file_digest(packed) == trained.model):
        raise CouldNotCheck(f"{packed} is not as packaging left it.", remedy=_AGAIN)
    try:
        whole = checkpoint_digests(context) == trained.checkpoint
    except OSError:  # it is gone, or a part of it can't be read
        whole = False
    if not whole:
        raise CouldNotCheck(f"{context.checkpoint_dir} is not as training left it.", remedy=_AGAIN)
    return Described(context, trained.name, trained.code_digest, trained.config, trained.parameters, trained.started_at)


@dataclass(frozen=True)
class Identity:
    """What runs must share to be seeds of one thing; digests are SHA-256 in hex."""

    track_digest: str
    code_digest: str
    config_digest: str
    data_fingerprint: str

    @classmethod
    def of(cls, record: RunRecord) -> Identity:
        """The identity of a run that has its record."""
        run = record.submission
        return cls(record.track.digest, run.code_digest, run.config_digest, record.data.fingerprint)


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
            done = {seed: outcome for seed, outcome in found if Identity.of(outcome.record) == identity}
            broken_off = {seed: name for seed, name, whose in _interrupted(seeds) if whose == identity}
    outcomes = []
    for seed in seeds:
        if seed in done:
            progress.note(f"seed {seed} has its record already: {done[seed].path}")
            outcomes.append(done[seed])
            continue
        outcome = None
        if seed in broken_off:
            try:
                outcome = resume_run(broken_off[seed], records_dir=records_dir, progress=progress)
            except CannotGoOn as error:
                progress.note(f"{broken_off[seed]} can't go on ({error.message}); the seed starts again")
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
    for path in sorted(runs_dir().glob(f"*/{TRAINED_FILE}")):
        try:
            trained = recall(path.parent)
        except CouldNotCheck:
            continue
        if trained.seed in seeds:
            config = canonical_digest(trained.config)
            whose = Identity(trained.track_digest, trained.code_digest, config, trained.data_fingerprint)
            found.append((trained.seed, path.parent.name, whose))
    return found


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
