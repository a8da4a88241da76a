"""One refereed run, phase by phase, to its unsigned record; and what is kept of it so that it can go on.

Order: describe → train → package → eval (final, then float and packed) → audit. A broken rule that leaves a score is a
finding in the record. Whatever ends the run without a score raises, after every process is dead and what is
half-written is gone; the logs stay.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

import harness
from harness.config.tracks import QUICK_TARGETS, Track
from harness.config.variables import check_environment
from harness.data import Dataset, load_validation
from harness.errors import CouldNotCheck, HarnessError, Interrupted, machine_trouble
from harness.files import file_digest, remove_tree, tree, write_atomic
from harness.progress import Reporter
from harness.protocol.predictor import Stage
from harness.protocol.session import MODEL_FILE
from harness.record import predicate
from harness.record.canonical import canonical_digest, utc_now
from harness.record.predicate import RunRecord
from harness.run.artifact import bytes_by_role, read_folder, seal_submission
from harness.run.cells import Reached, Resumed, RunContext, readable_runtime
from harness.run.evaluate import COPIED, Evaluation, Told, audit, compile_once, evaluate
from harness.run.machine import MachineWatch, describe_machine, describe_provenance
from harness.run.manifest import accepted_variables, check_variables
from harness.run.phases import describe, lay_out, package, train
from harness.run.reserve import run_gpus
from harness.run.verdicts import all_findings, machine_findings
from harness.sandbox.layers import Layer, LayerState
from harness.sandbox.processes import KillReport
from harness.sandbox.runtime import inventory
from harness.scoring.ledger import Stream
from harness.text import without_places

TRAINED_FILE = "trained.json"
KEPT = (  # what a run that goes on takes over as it was
    *("seed", "intent", "config", "parameters", "started_at", "audit_secret"),
    *("loss_curve", "isolation", "kills", "training"),
)
WORK = {"code", "description", "checkpoint", "package", "artifact", "compile-cache", COPIED, "code.bundle"}
REASON_CHARACTERS = 200
MOST_AGAIN = 2  # times that a run goes on when its processes have seen the text


@dataclass(frozen=True)
class Order:
    """A run to be made, all but its seed; ``source`` is a submission's folder, or a script that scores itself."""

    source: Path
    track_name: str
    dataset_name: str | None
    environ: Mapping[str, str]
    records_dir: Path
    progress: Reporter


def describe_submission(order: Order, track: Track, seed: int, run_dir: Path) -> RunContext:
    """Seal the folder and run the describe phase: everything that must be known before a run is announced.

    Raises ``UsageError`` for a folder that is not a submission or a configuration that it refuses.
    """
    check_environment(order.environ)
    with nothing_half_written(run_dir):
        sealed = seal_submission(order.source, run_dir)
        check_variables(sealed.manifest, order.environ, read_folder(sealed.root))
        context = RunContext(track, seed, run_dir, sealed, order.environ, order.progress)
        describe(context)
        with order.progress.stage("packages", None):  # half a minute when their copies have to be made
            readable_runtime(context)
        return context


def run_submission(context: RunContext, dataset: Dataset, *, quick: bool = False) -> RunRecord:
    """Run every phase of a described submission and return its unsigned record.

    quick: score the first targets only, and nothing for comparison
    Raises ``RuleBroken`` or ``CouldNotCheck`` when the run ends without a score.
    """
    track, limits = context.track, context.track.limits
    context.data_dir, context.bos_id = dataset.folder, dataset.bos_id
    with nothing_half_written(context.run_dir):
        with MachineWatch(run_gpus(track.hardware)) as watch:
            context.machine = watch
            sizes = _make_artifact(context, dataset)
            validation = load_validation(dataset)
            val_targets = min(len(validation.tokens) - 1, QUICK_TARGETS if quick else len(validation.tokens))
            told = Told(limits.eval_s - context.clock.used_s("eval"), val_targets)
            stream = partial(Stream, validation.tokens, validation.target_bytes)
            # The score that counts comes first: no process of the submission has seen a validation token before it.
            compile_once(context, told)
            begins = partial(update, context.run_dir, reached="scored pass")
            final = evaluate(context, "final", stream(val_targets), told, begins=begins)
            diagnostic = min(val_targets, track.audit.diagnostic_tokens or val_targets)
            stages: tuple[Stage, ...] = () if quick else ("float", "packed")
            before: dict[Stage, Evaluation] = {}
            left_out = []
            for stage in stages:
                try:
                    before[stage] = evaluate(context, stage, stream(diagnostic), Told(limits.eval_s, diagnostic))
                except HarnessError as error:  # it is for comparison only: the score that counts is there
                    what = f"The pass {stage!r}, for comparison, was left out: "
                    left_out.append(what + without_places(error.message))
                    context.progress.note(f"WARNING: {what}{error.message} {error.log}")
            update(context.run_dir, reached="audits")
            audits = audit(context, final, before.get("packed", final), stream(val_targets), told)
        model = (context.artifact_dir / MODEL_FILE).read_bytes()
        record = record_of(
            context,
            dataset,
            watch,
            kind="refereed",
            val_targets=val_targets,
            sizes=sizes,
            scores=[passed.score for passed in (*before.values(), final)],
            running_bpb=final.running_bpb,
            frozen_bpb=before["packed"].running_bpb if "packed" in before else [],
            audits=audits,
            findings=[],
            artifact_digest=hashlib.sha256(model).hexdigest(),
            model_sections=bytes_by_role(model, max_unpacked_bytes=limits.unpacked_bytes),
            readable=[predicate.ReadablePart(*part) for part in inventory(readable_runtime(context))],
            resumes=[str(resume) for resume in context.resumes],
            training=context.training,
        )
        val_bytes = int(validation.target_bytes[:val_targets].sum(dtype=np.int64))
        findings = all_findings(context, record, final, val_bytes=val_bytes, left_out=left_out)
        findings += [dataset.disjoint, *machine_findings(track, watch)]
        return msgspec.structs.replace(record, findings=sorted(findings, key=lambda finding: finding.rule))


def record_of(context: RunContext, dataset: Dataset, watch: MachineWatch, *, val_targets: int, **own: Any) -> RunRecord:
    """The unsigned record of a run that is over: what every kind of run says alike, and its ``own`` fields."""
    track, sealed = context.track, context.sealed
    return RunRecord(
        run_id=context.run_dir.name,
        harness_version=harness.__version__,
        started_at=context.started_at,
        track=predicate.TrackInfo(track.name, track.digest, track.official, msgspec.structs.asdict(track.readings)),
        submission=predicate.SubmissionInfo(
            name=sealed.manifest.name,
            code_digest=sealed.code_digest,
            files=sealed.files,
            config=context.config,
            config_digest=canonical_digest(context.config),
            parameters=context.parameters,
            seed=context.seed,
        ),
        data=predicate.DataInfo(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            files=dataset.files,
            val_documents=dataset.val_documents,
            val_targets=val_targets,
            val_bytes=dataset.val_bytes,
            train_tokens=dataset.train_tokens,
        ),
        machine=describe_machine(),
        isolation={layer: str(state) for layer, state in sorted(context.isolation.items())},
        spans=context.clock.entries(),
        budgets=context.clock.budgets(track),
        baselines_bpb=dataset.baselines_bpb,
        loss_curve=context.loss_curve,
        intent=context.intent,
        predecessor="",
        conditions=watch.conditions,
        provenance=describe_provenance(context.referee),
        **own,
    )


def _make_artifact(context: RunContext, dataset: Dataset) -> predicate.Sizes:
    """Train and package, or lay out what is there of a run that goes on; from its intent on a run remembers both."""
    track, clock = context.track, context.clock
    if not context.resumes:
        train(context, dataset.train_shards)
        if context.intent:
            trained = Trained(
                track=track.name,
                track_digest=track.digest,
                dataset=str(dataset.folder),
                data_fingerprint=dataset.fingerprint,
                code_digest=context.sealed.code_digest,
                environ=accepted_variables(context.sealed.manifest, context.environ),
                machine=describe_machine(),
                referee=context.referee,
                checkpoint=checkpoint_digests(context.checkpoint_dir),
                spans=clock.entries(),
                **{name: getattr(context, name) for name in KEPT},
            )
            write_atomic(context.run_dir / TRAINED_FILE, msgspec.json.encode(trained), replace=True, mode=0o600)
    packed = context.artifact_dir / MODEL_FILE
    if packed.exists():  # its spans hold the time already
        return lay_out(context, packed)
    counts_in, limits = track.readings.package_counts_in, track.limits
    left_s = {"eval": limits.eval_s, "train": limits.train_s - clock.used_s("train"), "none": limits.package_s}
    limit_s = min(limits.package_s, left_s[counts_in])
    sizes = package(context, limit_s=limit_s, budget="" if counts_in == "none" else counts_in)
    if context.intent:
        kept = {"spans": clock.entries(), "kills": context.kills, "isolation": context.isolation}
        update(context.run_dir, model=file_digest(packed), **kept)
    return sizes


@contextmanager
def nothing_half_written(run_dir: Path) -> Iterator[None]:
    """Remove a run's files, but not its logs, when the block fails or is interrupted.

    What is whole stays for ``--resume``: the checkpoint of an ended training, and the packed model. The error that is
    raised says so, with the command that goes on; one of the system becomes ``CouldNotCheck``, which names the disk.
    """
    try:
        yield
    except BaseException as error:
        with suppress(OSError, CouldNotCheck):
            words = error.message if isinstance(error, HarnessError) else error
            why = without_places(f"{getattr(error, 'rule', type(error).__name__)}: {words}")
            update(run_dir, ended=why[:REASON_CHARACTERS].rstrip(": ."))
        with suppress(OSError):  # what can't be removed must not hide why the run ended
            clear_half_written(run_dir)
        goes_on = ""
        if kept := kept_files(run_dir):
            what = "Training and packaging are" if "artifact" in kept else "Training is"
            goes_on = f"{what} kept: `harness submit --resume {run_dir.name}` goes on from there."
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted. {goes_on or 'Nothing is kept but its logs: start it again.'}") from None
        if isinstance(error, OSError):
            error = machine_trouble(error, run_dir)
        if isinstance(error, HarnessError):
            error.remedy = f"{error.remedy} {goes_on}".strip()
        raise error


def clear_half_written(run_dir: Path) -> None:
    """Remove what a run's phases wrote, but not its logs and what it takes to go on."""
    for name in WORK - {*kept_files(run_dir)}:
        remove_tree(run_dir / name)


class Trained(msgspec.Struct, frozen=True):
    """What a run remembers at the end of its training, and again when it is packed, so that it can go on.

    Written by the referee beside the checkpoint, whole or not at all. It names every file by digest; whoever owns the
    run folder could forge what the intent does not say, as he could forge a record: he owns the key. Digests are
    SHA-256 in hex; ``checkpoint`` is relative path -> digest; ``referee`` is "" in runs of before it was noted.

    audit_secret: with it a resumed run is audited at the same places
    resumes:      each time that the run went on, the oldest first
    reached, ended: of the attempt that goes on or ended last: its phase, and the error that ended it
    model: digest of ``model.bin`` once the run is packed, else ""; then ``spans`` hold the time of packaging too
    """

    track: str
    track_digest: str
    dataset: str
    data_fingerprint: str
    seed: int
    intent: str
    code_digest: str
    config: dict[str, str | int | float | bool | None]
    parameters: int
    started_at: str
    environ: dict[str, str]
    machine: predicate.Machine
    checkpoint: dict[str, str]
    loss_curve: list[tuple[int, float]]
    spans: list[predicate.SpanEntry]
    isolation: dict[Layer, LayerState]
    kills: list[KillReport]
    audit_secret: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    resumes: list[Resumed] = []
    reached: Reached = "packaging or evaluation"
    ended: str = ""
    training: predicate.Training | None = None
    model: str = ""
    referee: str = ""


def recall(run_dir: Path) -> Trained:
    """Read it. Raises ``CouldNotCheck`` when training was not over, or the file is not whole."""
    path = run_dir / TRAINED_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    except FileNotFoundError:
        text = f"{run_dir} has no {TRAINED_FILE}: its training did not end, or the run has its record already."
        raise CouldNotCheck(text, remedy="`harness verify` lists records; `harness submit` starts again.") from None
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path} is damaged ({error}).", remedy="Start again with `harness submit`.") from None


def update(run_dir: Path, **changes: Any) -> None:
    """Change fields of what is stored; nothing happens in a run that is not to be resumed."""
    if (run_dir / TRAINED_FILE).exists():
        changed = msgspec.json.encode(msgspec.structs.replace(recall(run_dir), **changes))
        write_atomic(run_dir / TRAINED_FILE, changed, replace=True, mode=0o600)


def going_on_again(trained: Trained) -> list[Resumed]:
    """Each time that the run went on, with one more. Raises ``CouldNotCheck`` when the text was seen too often."""
    ended = trained.ended or "the referee ended without a word"
    resumes = [*trained.resumes, Resumed(utc_now(), trained.reached, ended)]
    if sum(resume.saw_text for resume in resumes) > MOST_AGAIN:
        text = f"the text was seen in {MOST_AGAIN + 1} tries; a cheat that ends them chooses among them."
        raise CouldNotCheck(text, remedy="Start again with `harness submit`.")
    return resumes


def kept_files(run_dir: Path) -> tuple[str, ...]:
    """What of a run's files it takes to go on; none when its training did not end, or it may not go on any more."""
    try:
        going_on_again(trained := recall(run_dir))
    except CouldNotCheck:
        return ()
    return ("checkpoint", "code.bundle", *(("artifact",) if trained.model else ()))


def checkpoint_digests(folder: Path) -> dict[str, str]:
    """Digest of every file of the checkpoint; of a link that of the place it names."""
    return {
        path.relative_to(folder).as_posix(): f"link {hashlib.sha256(os.fsencode(path.readlink())).hexdigest()}"
        if path.is_symlink()
        else file_digest(path)
        for path in tree(folder)
        if path.is_symlink() or path.is_file()
    }
