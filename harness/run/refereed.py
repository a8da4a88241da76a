"""One refereed run, phase by phase, to its unsigned record; and what is kept of it so that it can go on.

Order: describe → train → package → eval (final, then float and packed) → audit. A broken rule that leaves a score is a
finding in the record. Whatever ends the run without a score raises, after every process is dead and what is
half-written is gone; the logs stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import harness
from harness.clock.spans import Ledger
from harness.config.tracks import QUICK_TARGETS, Track
from harness.data import Dataset, load_validation
from harness.errors import CouldNotCheck, HarnessError, Interrupted, machine_trouble
from harness.files import remove_tree, tree, write_atomic
from harness.program import program
from harness.progress import Reporter
from harness.protocol.predictor import Stage
from harness.protocol.session import MODEL_FILE, Scalar
from harness.record.canonical import canonical_digest, file_digest
from harness.record.predicate import DataInfo, Machine, RunRecord, SpanEntry, SubmissionInfo, TrackInfo, Training
from harness.rules import Finding, Verdict
from harness.run.artifact import bytes_by_role, read_folder, seal_submission
from harness.run.cells import Reached, Resumed, RunContext, readable_parts
from harness.run.evaluate import Evaluation, audit, compile_once, evaluate
from harness.run.machine import MachineWatch, describe_machine, describe_provenance, gpu_names, judge_conditions
from harness.run.manifest import accepted_variables, check_variables
from harness.run.phases import describe, lay_out, package, train
from harness.run.reserve import run_gpus
from harness.run.verdicts import all_findings, hardware_findings
from harness.sandbox.layers import Layer, LayerState
from harness.sandbox.spec import KillReport
from harness.scoring.ledger import Stream
from harness.text import without_places

TRAINED_FILE = "trained.json"
S3_PROTOCOL = "S3-PROTOCOL"
WORK_FOLDERS = ("code", "description", "checkpoint", "package", "artifact", "closure", "compile-cache")
WORK_FILES = ("code.bundle", "ledger.jsonl")
REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Described:
    """A sealed submission that accepted its configuration. ``context`` carries the run's clock on."""

    context: RunContext
    name: str
    code_digest: str
    config: dict[str, Scalar]
    parameters: int
    started_at: str


def describe_submission(
    *,
    submission_dir: Path,
    track: Track,
    seed: int,
    run_dir: Path,
    environ: Mapping[str, str],
    progress: Reporter,
) -> Described:
    """Seal the folder and run the describe phase: everything that must be known before a run is announced.

    Raises ``UsageError`` for a folder that is no submission or a configuration that it refuses.
    """
    with nothing_half_written(run_dir):
        started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        sealed = seal_submission(submission_dir, run_dir)
        check_variables(sealed.manifest, environ, read_folder(sealed.root))
        context = RunContext(track, seed, run_dir, sealed, environ, progress, Ledger())
        config, parameters = describe(context)
        return Described(context, sealed.manifest.name, sealed.code_digest, config, parameters, started_at)


def run_submission(
    *,
    described: Described,
    dataset: Dataset,
    intent_digest: str,
    predecessor: str,
    loss_curve: list[tuple[int, float]] | None = None,
    quick: bool = False,
) -> RunRecord:
    """Run every phase of a described submission and return its unsigned record.

    loss_curve: of a training that is over already, when a run is resumed
    quick:      score the first targets only, and nothing for comparison
    Raises ``RuleBroken`` or ``CouldNotCheck`` when the run ends without a score.
    """
    described.context.data_dir = dataset.folder
    hardware = described.context.track.hardware
    described.context.bos_id = dataset.bos_id
    gpus = run_gpus(hardware)
    watch, names = MachineWatch(gpus), gpu_names(gpus)
    described.context.machine = watch
    with nothing_half_written(described.context.run_dir):
        with watch:
            curve = _train(described, dataset, intent_digest) if loss_curve is None else loss_curve
            record = _run(described, dataset, intent_digest, predecessor, curve, quick=quick)
        assert watch.conditions is not None
        findings = [
            *record.findings,
            judge_conditions(watch.conditions, watch.seconds),
            *hardware_findings(hardware, names),
        ]
        findings.sort(key=lambda finding: finding.rule)
        provenance, training = describe_provenance(), described.context.training
        return msgspec.structs.replace(
            record, conditions=watch.conditions, findings=findings, provenance=provenance, training=training
        )


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
            update(run_dir, ended=why[:REASON_CHARACTERS].rstrip(": "))
        clear_half_written(run_dir)
        goes_on = ""
        if kept_files(run_dir):
            goes_on = f"Training is kept: `{program()} submit --resume {run_dir.name}` goes on after it."
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted. {goes_on or 'Nothing half-written was kept.'}") from None
        if isinstance(error, OSError):
            error = machine_trouble(error, run_dir)
        if isinstance(error, HarnessError):
            error.remedy = f"{error.remedy} {goes_on}".strip()
        raise error


def clear_half_written(run_dir: Path) -> None:
    """Remove what a run's phases wrote, but not its logs and what it takes to go on."""
    for name in {*WORK_FOLDERS, *WORK_FILES} - set(kept_files(run_dir)):
        remove_tree(run_dir / name)


def _train(described: Described, dataset: Dataset, intent_digest: str) -> list[tuple[int, float]]:
    """Train, and remember that it ended whole, when the run was announced."""
    context = described.context
    curve = train(context, dataset.train_shards)
    if intent_digest:
        trained = Trained(
            track=context.track.name,
            track_digest=context.track.digest,
            dataset=dataset.name,
            data_fingerprint=dataset.fingerprint,
            seed=context.seed,
            intent=intent_digest,
            name=described.name,
            code_digest=described.code_digest,
            config=described.config,
            parameters=described.parameters,
            started_at=described.started_at,
            environ=accepted_variables(context.sealed.manifest, context.environ),
            machine=describe_machine(),
            checkpoint=checkpoint_digests(context),
            loss_curve=curve,
            spans=context.clock.entries(),
            isolation=context.isolation,
            kills=context.kills,
            audit_secret=context.audit_secret.hex(),
            training=context.training,
        )
        remember(context.run_dir, trained)
    return curve


def _run(
    described: Described,
    dataset: Dataset,
    intent_digest: str,
    predecessor: str,
    loss_curve: list[tuple[int, float]],
    *,
    quick: bool,
) -> RunRecord:
    context = described.context
    track, clock, limits = context.track, context.clock, context.track.limits
    counts_in = track.readings.package_counts_in
    budget = "" if counts_in == "none" else counts_in

    def used(budget: str) -> float:
        return sum(span.seconds for span in clock.entries() if span.budget == budget)

    left_s = {"eval": limits.eval_s, "train": limits.train_s - used("train"), "none": limits.package_s}
    if (context.artifact_dir / MODEL_FILE).exists():  # of a run that goes on: its spans hold the time already
        sizes = lay_out(context, context.artifact_dir / MODEL_FILE)
    else:
        sizes = package(context, limit_s=min(limits.package_s, left_s[counts_in]), budget=budget)
        if intent_digest:  # from now on the run can go on with its evaluation
            model_digest = file_digest(context.artifact_dir / MODEL_FILE)
            kept = {"spans": clock.entries(), "kills": context.kills, "isolation": context.isolation}
            update(context.run_dir, model=model_digest, **kept)
    validation = load_validation(dataset)
    val_targets = min(len(validation.tokens) - 1, QUICK_TARGETS) if quick else len(validation.tokens) - 1
    eval_s = limits.eval_s - used("eval")

    def stream(targets: int) -> Stream:
        return Stream(validation.tokens, validation.target_bytes, targets)

    # The score that counts comes first: no process of the submission has seen a validation token before it.
    compile_once(context, limit_s=eval_s, targets=val_targets)
    final = evaluate(context, "final", stream(val_targets), limit_s=eval_s, whole_set=not quick)
    diagnostic = min(val_targets, track.audit.diagnostic_tokens or val_targets)
    stages: tuple[Stage, ...] = () if quick else ("float", "packed")
    before: dict[Stage, Evaluation] = {}
    left_out = []
    for stage in stages:
        whole = diagnostic == val_targets
        try:
            before[stage] = evaluate(context, stage, stream(diagnostic), limit_s=limits.eval_s, whole_set=whole)
        except HarnessError as error:  # it is for comparison only: the score that counts is there
            what = f"The pass {stage!r}, for comparison, was left out: "
            left_out.append(what + without_places(error.message))
            context.progress.note(f"WARNING: {what}{error.message} {error.log}")
    scores = [passed.score for passed in (*before.values(), final)]
    update(context.run_dir, reached="audits")
    audits = audit(context, final, before.get("packed", final), stream(val_targets), limit_s=eval_s)
    spans, budgets = clock.entries(), clock.budgets(track)
    readable = readable_parts(context)
    model = (context.artifact_dir / "model.bin").read_bytes()
    return RunRecord(
        run_id=context.run_dir.name,
        kind="refereed",
        harness_version=harness.__version__,
        started_at=described.started_at,
        track=track_info(track),
        submission=SubmissionInfo(
            name=described.name,
            code_digest=described.code_digest,
            files=context.sealed.files,
            config=described.config,
            config_digest=canonical_digest(described.config),
            parameters=described.parameters,
            seed=context.seed,
        ),
        data=data_info(dataset, val_targets),
        machine=describe_machine(),
        isolation={layer: str(state) for layer, state in sorted(context.isolation.items())},
        spans=spans,
        budgets=budgets,
        sizes=sizes,
        scores=scores,
        baselines_bpb=dict(dataset.baselines_bpb),
        running_bpb=final.running_bpb,
        frozen_bpb=before["packed"].running_bpb if "packed" in before else [],
        loss_curve=loss_curve,
        audits=audits,
        findings=_with_what_was_left_out(
            all_findings(
                context,
                spans=spans,
                budgets=budgets,
                sizes=sizes,
                final=final,
                audits=audits,
                disjoint=dataset.disjoint,
                val_targets=val_targets,
                val_bytes=int(validation.target_bytes[:val_targets].sum(dtype=np.int64)),
                readable=readable,
            ),
            left_out,
            packed="packed" in before or quick,
        ),
        artifact_digest=hashlib.sha256(model).hexdigest(),
        intent=intent_digest,
        predecessor=predecessor,
        model_sections=bytes_by_role(model, max_unpacked_bytes=limits.unpacked_bytes),
        readable=readable,
        resumes=[str(resume) for resume in context.resumes],
    )


def _with_what_was_left_out(findings: list[Finding], left_out: list[str], *, packed: bool) -> list[Finding]:
    """A comparison that failed leaves the score as it is: S3-PROTOCOL says that it is missing.

    Where it was the packed model's, C1-CAUSAL does too: who fails there on purpose gets rid of the draws against it.
    """
    if not left_out:
        return findings
    words = {S3_PROTOCOL: " ".join(left_out)}
    if not packed:
        words["C1-CAUSAL"] = "No row was drawn against the packed model, which was not scored; the bound holds without."
    return [
        msgspec.structs.replace(
            finding,
            verdict=Verdict.WARN if finding.verdict is Verdict.PASS else finding.verdict,
            message=words[finding.rule] if finding.rule == S3_PROTOCOL else f"{finding.message} {words[finding.rule]}",
        )
        if finding.rule in words
        else finding
        for finding in findings
    ]


def track_info(track: Track) -> TrackInfo:
    """The track as a record names it."""
    return TrackInfo(track.name, track.digest, track.official, msgspec.structs.asdict(track.readings))


def data_info(dataset: Dataset, val_targets: int) -> DataInfo:
    """The data set as a record names it; ``val_targets`` of it were to be scored."""
    return DataInfo(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        files=dict(dataset.files),
        val_documents=dataset.val_documents,
        val_targets=val_targets,
        val_bytes=dataset.val_bytes,
        train_tokens=dataset.train_tokens,
    )


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run remembers at the end of its training, and again when it is packed, so that it can go on.

    Written by the referee beside the checkpoint, whole or not at all. It names every file by digest; whoever owns the
    run folder could forge it, as he could forge a record: he owns the key. Digests are SHA-256 in hex; ``checkpoint``
    is relative path -> digest.

    audit_secret: hex; with it a resumed run is audited at the same places
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
    name: str
    code_digest: str
    config: dict[str, str | int | float | bool | None]
    parameters: int
    started_at: str
    environ: dict[str, str]
    machine: Machine
    checkpoint: dict[str, str]
    loss_curve: list[tuple[int, float]]
    spans: list[SpanEntry]
    isolation: dict[Layer, LayerState]
    kills: list[tuple[str, KillReport]]
    audit_secret: str
    resumes: list[Resumed] = []
    reached: Reached = "packaging or evaluation"
    ended: str = ""
    training: Training | None = None
    model: str = ""


def remember(run_dir: Path, trained: Trained) -> None:
    """Store it in the run folder."""
    write_atomic(run_dir / TRAINED_FILE, msgspec.json.encode(trained), replace=True, mode=0o600)


def recall(run_dir: Path) -> Trained:
    """Read it. Raises ``CouldNotCheck`` when training was not over, or the file is not whole."""
    path = run_dir / TRAINED_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    except FileNotFoundError:
        raise CouldNotCheck(
            f"{run_dir} has no {TRAINED_FILE}: its training did not end, or the run has its record already.",
            remedy="`harness verify` lists records; `make submit` starts again.",
        ) from None
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path} is damaged ({error}).", remedy="Start again with `make submit`.") from None


def update(run_dir: Path, **changes: Any) -> None:
    """Change fields of what is stored; nothing happens in a run that is not to be resumed."""
    if (run_dir / TRAINED_FILE).exists():
        remember(run_dir, msgspec.structs.replace(recall(run_dir), **changes))


def forget(run_dir: Path) -> None:
    """Remove it: the run has a result."""
    (run_dir / TRAINED_FILE).unlink(missing_ok=True)


def kept_files(run_dir: Path) -> tuple[str, ...]:
    """What of a run's files it takes to go on; none when its training did not end."""
    try:
        trained = recall(run_dir)
    except CouldNotCheck:
        return ()
    return ("code", "checkpoint", "code.bundle", *(("artifact",) if trained.model else ()))


def checkpoint_digests(context: RunContext) -> dict[str, str]:
    """Digest of every plain file of the checkpoint; links and the like are left out."""
    folder = context.checkpoint_dir
    files = (path for path in tree(folder) if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
