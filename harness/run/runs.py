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

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.config.variables import cache_dir, keys_dir, runs_dir
from harness.data import Dataset, open_dataset
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import file_digest
from harness.progress import Reporter
from harness.protocol.session import MODEL_FILE
from harness.record.canonical import canonical_digest, utc_now
from harness.record.predicate import FOREIGN_SHARE, Intent, RunRecord
from harness.record.signing import open_signing_key
from harness.record.store import check_announcer, sign_and_store, sign_entry
from harness.record.verification import verify_folder
from harness.rules import Verdict
from harness.run import refereed
from harness.run.artifact import BUNDLE_FILE, pack_code, read_folder, sealed_at
from harness.run.cells import RunContext
from harness.run.machine import busy_now, describe_machine, referee_digest
from harness.run.manifest import accepted_variables, check_variables, read_manifest
from harness.run.refereed import TRAINED_FILE, Order
from harness.run.reserve import going_on, reserved

NEWEST = ("", "1", "newest")
Identity = tuple[str, str, str, str]  # digests of what runs share as seeds of one thing: track, code, config, data
_AGAIN = "Start again with `harness submit`."


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


@contextmanager
def run_place(order: Order, track: Track, seed: int, *, sign: bool) -> Iterator[tuple[Dataset, Path]]:
    """What a run needs before its first phase: the reserved machine, its data set, and a fresh, private folder."""
    with reserved(track.hardware, f"track {track.name}"):
        if sign:  # a wrong mode or passphrase of the key must stop it here
            open_signing_key(keys_dir(), order.records_dir, "runner")
        dataset = open_dataset(order.dataset_name or track.dataset, cache_dir() / "datasets", order.progress)
        dataset.require_vocab(track.vocab_size, f"track {track.name}")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        run_dir = runs_dir() / f"{stamp}-{track.name}-{seed}-{os.urandom(4).hex()}"
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(mode=0o700)
        with going_on(run_dir):
            yield dataset, run_dir


def intent_of(context: RunContext, dataset: Dataset, announced_at: str) -> Intent:
    """What a described run announces."""
    secret = context.audit_secret
    return Intent(
        run_id=context.run_dir.name,
        announced_at=announced_at,
        track=context.track.name,
        track_digest=context.track.digest,
        submission=context.sealed.manifest.name,
        code_digest=context.sealed.code_digest,
        config_digest=canonical_digest(context.config),
        data_fingerprint=dataset.fingerprint,
        seed=context.seed,
        audit_commitment=hashlib.sha256(secret).hexdigest() if secret else "",
    )


def signed(record: RunRecord, run_dir: Path, records_dir: Path) -> RunOutcome:
    """Sign and store the record of a run, which is not to be resumed any more."""
    stored = sign_and_store(record, run_dir / "artifact", records_dir, keys_dir())
    (run_dir / TRAINED_FILE).unlink(missing_ok=True)
    return RunOutcome(stored.record, stored.path, run_dir)


def submit_run(order: Order, seed: int, *, sign: bool = True, quick: bool = False) -> RunOutcome:
    """One refereed run. ``sign=False`` (a reviewer's rerun, or a try) announces and stores nothing.

    quick: cut it short; for a try alone
    Raises ``UsageError`` before it is announced, ``RuleBroken`` or ``CouldNotCheck`` when the run ends without a score.
    """
    assert not (sign and quick)
    track = load_track(order.track_name).quick() if quick else load_track(order.track_name)
    if sign:
        track.refuse_when_closed(utc_now())
    with run_place(order, track, seed, sign=sign) as (dataset, run_dir):
        warn_of_neighbours(order.progress)
        context = refereed.describe_submission(order, track, seed, run_dir)
        if sign:
            context.intent = sign_entry(intent_of(context, dataset, utc_now()), order.records_dir, keys_dir()).digest
        record = refereed.run_submission(context, dataset, quick=quick)
        return signed(record, run_dir, order.records_dir) if sign else RunOutcome(record, None, run_dir)


def warn_of_neighbours(progress: Reporter) -> None:
    """Look at the machine for a second, before anything is paid for."""
    if (taken := busy_now()) > FOREIGN_SHARE:
        progress.note(
            f"WARNING: other processes take {taken:.0%} of this machine's processors (load {os.getloadavg()[0]:.1f}). "
            "Clocks show real time: expect a worse score and a longer run."
        )


def resume_run(
    run: str,
    *,
    records_dir: Path,
    progress: Reporter,
    seed: int | None = None,
    track: str | None = None,
    dataset_name: str | None = None,
    submission_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunOutcome:
    """Continue the run called ``run`` (its id, its folder, or "newest") after its training.

    What else is given the run must be of; "newest" is the newest such run that can go on. Of ``environ`` the variables
    count that reach the submission, which must be given with it.
    Raises ``UsageError`` for a run that is unknown or still goes on, ``CouldNotCheck`` with the reason when something
    is not sound any more.
    """
    # field of what a run remembers → its value, and words for people
    given: dict[str, tuple[object, str]] = {"seed": (seed, f"seed {seed}"), "track": (track, f"track {track}")}
    wanted = {name: (value, words) for name, (value, words) in given.items() if value is not None}
    if dataset_name is not None:
        fingerprint = open_dataset(dataset_name, cache_dir() / "datasets", progress).fingerprint
        wanted["data_fingerprint"] = fingerprint, f"data set {dataset_name}"
    if submission_dir is not None:
        files = read_folder(submission_dir)
        wanted["code_digest"] = hashlib.sha256(pack_code(files)).hexdigest(), f"the code in {submission_dir} now"
        if environ is not None:
            check_variables(manifest := read_manifest(files, str(submission_dir)), environ, files)
            wanted["environ"] = accepted_variables(manifest, environ), "these variables"
    run_dir = find_run(run, wanted)
    refereed.recall(run_dir)  # in a folder that is not such a run nothing is written
    with going_on(run_dir):
        trained = refereed.recall(run_dir)
        terms = load_track(trained.track)
        with reserved(terms.hardware, f"track {terms.name}"):
            try:
                announced = check_announcer(trained.intent, trained.started_at, records_dir, keys_dir())
                dataset = open_dataset(trained.dataset, cache_dir() / "datasets", progress)
                resumes = refereed.going_on_again(trained)
                context = _reopen(run_dir, trained, announced, terms, dataset, progress)
            except (CouldNotCheck, RuleBroken) as error:  # the latter: another records folder announced it, say
                raise CannotGoOn(error.message, remedy=error.remedy) from None
            # Stored before anything is repeated: a run that dies again does not lose count.
            context.resumes = resumes
            refereed.update(run_dir, resumes=context.resumes, reached="packaging or evaluation", ended="")
            progress.note(f"{run_dir.name}: going on with {'evaluation' if trained.model else 'packaging'}")
            return signed(refereed.run_submission(context, dataset), run_dir, records_dir)


def find_run(run: str, wanted: Mapping[str, tuple[object, str]]) -> Path:
    """The folder of a run that remembers each ``wanted`` value. Raises ``UsageError`` when there is none.

    Raises ``CouldNotCheck`` for a run that is named and remembers nothing: it has its record already, say.
    """
    base = runs_dir()

    def differences(run_dir: Path) -> str:
        trained = refereed.recall(run_dir)
        return ", ".join(words for name, (value, words) in wanted.items() if getattr(trained, name) != value)

    if run not in NEWEST:
        if (path := next((path for path in (base / run, Path(run)) if path.is_dir()), None)) is None:
            raise UsageError(f"{base} holds no run {run!r}.", remedy="Name one of its folders, or leave the name out.")
        if other := differences(path):
            raise UsageError(f"run {path.name} is not of {other}.", remedy="Leave that out, or name another run.")
        return path.absolute()
    folders = sorted(path for path in base.glob("*") if path.is_dir())
    kept = [path for path in folders if refereed.kept_files(path)]
    found = [path for path in kept if not differences(path)]
    if not found and kept:
        text = f"run {kept[-1].name}, the newest that can be resumed, is not of {differences(kept[-1])}."
        remedy = f"`harness submit --resume {kept[-1].name}` goes on with it; without --resume a run starts."
        raise UsageError(text, remedy=remedy)
    if not found and (wanted or not folders):
        raise UsageError(f"no run in {base} can be resumed.", remedy="`harness submit` starts one.")
    return (found or folders)[-1]


def _reopen(
    run_dir: Path, trained: refereed.Trained, announced: Intent, track: Track, dataset: Dataset, progress: Reporter
) -> RunContext:
    """The run as its training, or its packaging, left it. Raises ``CouldNotCheck`` for whatever is not as it was."""
    machine = describe_machine()
    differences = {
        "the referee": referee_digest() != trained.referee,
        "the track": track.digest != trained.track_digest,
        "the data set": dataset.fingerprint != trained.data_fingerprint,
        "the processor": machine.cpu != trained.machine.cpu,
        "the list of GPUs": machine.gpus != trained.machine.gpus,
        "a package or Python": (machine.python, machine.packages) != (trained.machine.python, trained.machine.packages),
    }
    if changed := [name for name, differs in differences.items() if differs]:
        raise CouldNotCheck(f"since the training {' and '.join(changed)} changed.", remedy=_AGAIN)
    bundle, packed, checkpoint = run_dir / BUNDLE_FILE, run_dir / "artifact" / MODEL_FILE, run_dir / "checkpoint"
    kept: tuple[tuple[Path, Callable[[], bool], str], ...] = (
        (bundle, lambda: file_digest(bundle) == trained.code_digest, "the code that was announced"),
        (packed, lambda: not trained.model or file_digest(packed) == trained.model, "as packaging left it"),
        (checkpoint, lambda: refereed.checkpoint_digests(checkpoint) == trained.checkpoint, "as training left it"),
    )
    for path, whole, words in kept:
        with suppress(OSError):  # it is gone, or a part of it can't be read
            if whole():
                continue
        raise CouldNotCheck(f"{path} is not {words}.", remedy=_AGAIN)
    refereed.clear_half_written(run_dir)
    context = RunContext(
        track=track,
        run_dir=run_dir,
        sealed=sealed_at(bundle, run_dir / "code"),
        environ=trained.environ,
        progress=progress,
        clock=Ledger(earlier=trained.spans),
        **{name: getattr(trained, name) for name in refereed.KEPT},
    )
    if intent_of(context, dataset, announced.announced_at) != msgspec.structs.replace(announced, predecessor=""):
        raise CouldNotCheck(f"what {TRAINED_FILE} says of the announced run changed since the training.", remedy=_AGAIN)
    return context


def submit_seeds(order: Order, seeds: Sequence[int], *, again: bool) -> Iterator[tuple[RunOutcome, bool]]:
    """Run each seed in turn; yields each outcome when it is there, and whether it was run for it now.

    again: run every seed, also one that has a record
    """
    found = [] if again else list(_earlier(order.records_dir, seeds))
    identity = _identify(order, seeds[0]) if found else None
    kept = {seed: what for seed, whose, what in found if whose == identity}
    for seed in seeds:
        before = kept.get(seed)
        if isinstance(before, RunOutcome):
            order.progress.note(f"seed {seed} has its record already: {before.path}")
            yield before, False
            continue
        if before is not None:
            try:
                yield resume_run(before, records_dir=order.records_dir, progress=order.progress), True
                continue
            except CannotGoOn as error:
                order.progress.note(f"{before} can't go on ({error.message}); the seed starts again")
        yield submit_run(order, seed), True


def _earlier(records_dir: Path, seeds: Sequence[int]) -> Iterator[tuple[int, Identity, RunOutcome | str]]:
    """Names of runs that broke off after their training, then sound records under a key that is here, the newest first.

    So what counts comes last: a record before a run that broke off, and of a seed that was repeated the first record.
    Somebody else's record of a seed does not stand for ours.
    """
    for path in sorted(runs_dir().glob(f"*/{TRAINED_FILE}")):
        with suppress(CouldNotCheck):
            run = refereed.recall(path.parent)
            if run.seed in seeds:
                whose = run.track_digest, run.code_digest, canonical_digest(run.config), run.data_fingerprint
                yield run.seed, whose, path.parent.name
    if not records_dir.is_dir():
        return
    own = {path.stem for path in keys_dir().glob("*.pem")}
    for entry in reversed(verify_folder(records_dir, judge_runs=False).records):
        record, sound = entry.record, entry.verdict is not Verdict.FAIL
        if record and entry.entry and sound and entry.entry.signer in own and record.submission.seed in seeds:
            ours = record.submission
            whose = record.track.digest, ours.code_digest, ours.config_digest, record.data.fingerprint
            yield ours.seed, whose, RunOutcome(record, entry.path, runs_dir() / record.run_id)


def _identify(order: Order, seed: int) -> Identity:
    """The identity that a run would have now: the describe phase in a folder of its own, which is removed again."""
    track = load_track(order.track_name)
    with run_place(order, track, seed, sign=False) as (dataset, run_dir):
        try:
            run = refereed.describe_submission(order, track, seed, run_dir)
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)
    return (track.digest, run.sealed.code_digest, canonical_digest(run.config), dataset.fingerprint)
