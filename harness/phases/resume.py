"""``harness submit --resume``: go on from a whole checkpoint or a packed model after any failure, or say why not.

Covered: a phase that failed, a referee that was killed, a full disk, a power cut after training. Not covered: training
itself: a clock that stopped in the middle can't be trusted any more, so such a run starts again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.cli.progress import Reporter
from harness.clock.spans import Ledger
from harness.config.environment import cache_dir, keys_dir, runs_dir
from harness.config.tracks import Track, load_track
from harness.data import Dataset, open_dataset
from harness.errors import CouldNotCheck, UsageError
from harness.files import remove_tree
from harness.phases.context import RunContext
from harness.phases.machine import describe_machine
from harness.phases.reserve import going_on, reserved
from harness.phases.run import Described, clear_half_written, run_submission
from harness.phases.seal import reopen_sealed
from harness.phases.submit import RunOutcome
from harness.phases.trained import BEFORE_AUDITS, FILE_NAME, Trained, checkpoint_digests, forget, recall, update
from harness.protocol.session import MODEL_FILE
from harness.record import check_announcer, file_digest, load_records, sign_and_store, utc_now

NEWEST = "newest"


class CannotGoOn(CouldNotCheck):
    """What is kept of the run is not sound, or does not fit this machine any more: it has to start again."""


_AGAIN = "Start again with `make submit`."


def resume_run(
    run: str, *, records_dir: Path, progress: Reporter, seed: int | None = None, track: str | None = None
) -> RunOutcome:
    """Continue the run called ``run`` (its id, its folder, or "newest") after its training.

    seed, track: what the run must be of, where that was said; "newest" is the newest such run that can go on
    Raises ``UsageError`` for a run that is unknown or still goes on, ``CouldNotCheck`` with the reason when something
    is not sound any more.
    """
    run_dir = find_run(run, seed, track)
    with going_on(run_dir):
        trained = recall(run_dir)
        terms = load_track(trained.track)
        with reserved(terms.hardware, f"track {terms.name}"):
            return _go_on(run_dir, trained, terms, records_dir, progress)


def _go_on(run_dir: Path, trained: Trained, track: Track, records_dir: Path, progress: Reporter) -> RunOutcome:
    try:
        check_announcer(trained.intent, trained.started_at, records_dir, keys_dir())
        dataset = open_dataset(trained.dataset, cache_dir() / "datasets", progress)
        _refuse_changes(trained, track, dataset, records_dir, progress)
        described = _reopen(run_dir, _counted(run_dir, trained), track, progress)
    except CouldNotCheck as error:
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


def _counted(run_dir: Path, trained: Trained) -> Trained:
    """With one more resume, stored before anything is repeated: a run that dies again does not lose count."""
    ended = trained.ended or "the referee ended without a word"
    resumes = [*trained.resumes, f"{utc_now()}, in the {trained.reached}: {ended}"]
    update(run_dir, resumes=resumes, reached=BEFORE_AUDITS, ended="")
    return recall(run_dir)


def find_run(run: str, seed: int | None = None, track: str | None = None) -> Path:
    """The folder of a run, of ``seed`` and ``track`` where given. Raises ``UsageError`` when there is none."""
    base = runs_dir()
    wanted = " and ".join(f"{name} {value}" for name, value in (("seed", seed), ("track", track)) if value is not None)
    if run not in ("", "1", NEWEST):
        for path in (base / run, Path(run)):
            if path.is_dir():
                if wanted and not _is_of(path, seed, track):
                    raise UsageError(f"run {path.name} is not of {wanted}.", remedy="Leave out SEED and TRACK.")
                return path.absolute()
        raise UsageError(f"there is no run {run!r} in {base}.", remedy="Name a folder of it, or leave the name out.")
    folders = sorted(path for path in base.glob("*") if path.is_dir())
    whole = [path for path in folders if (path / FILE_NAME).is_file()]
    found = [path for path in (whole if wanted else whole or folders) if not wanted or _is_of(path, seed, track)]
    if not found:
        words = f"no run of {wanted} that can go on" if wanted else "no run"
        raise UsageError(f"there is {words} in {base}.", remedy="`make submit` starts one.")
    return found[-1]


def _is_of(run_dir: Path, seed: int | None, track: str | None) -> bool:
    try:
        trained = recall(run_dir)
    except CouldNotCheck:
        return False
    return seed in (None, trained.seed) and track in (None, trained.track)


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
    bundle = run_dir / "code.bundle"
    if not bundle.is_file() or hashlib.sha256(bundle.read_bytes()).hexdigest() != trained.code_digest:
        raise CouldNotCheck(f"{bundle} is not the code that was announced.", remedy=_AGAIN)
    clear_half_written(run_dir)
    remove_tree(run_dir / "code")
    context = RunContext(
        track,
        trained.seed,
        run_dir,
        reopen_sealed(run_dir),
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
    if checkpoint_digests(context) != trained.checkpoint:
        raise CouldNotCheck(f"{context.checkpoint_dir} is not as training left it.", remedy=_AGAIN)
    return Described(context, trained.name, trained.code_digest, trained.config, trained.parameters, trained.started_at)
