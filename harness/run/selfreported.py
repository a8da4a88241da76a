"""One unmodified script in the style of the public ``train_gpt.py``, from its file to a signed record.

It trains, packs and scores itself. Enforced: the sandbox (no network beyond loopback between ranks, no files but its
own and the data), the clock over the whole script, the cap on script and packed model. Not enforced: anything about the
score. The script reads validation shards, so the record's kind, its name and every finding on the score say
*self-reported*.
"""

import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from harness.clock.spans import A1_TRAIN_CLOCK
from harness.config.tracks import load_track
from harness.config.variables import keys_dir
from harness.data import Dataset
from harness.data.dataset import find_shards, shard_name
from harness.errors import RuleBroken, UsageError
from harness.files import read_regular
from harness.protocol.session import MODEL_FILE
from harness.record.canonical import utc_now
from harness.record.predicate import RunRecord, Score
from harness.record.store import sign_entry
from harness.review.logs import decode, read_log
from harness.rules import Finding, Verdict
from harness.run import artifact
from harness.run.cells import RunContext, phase_cell
from harness.run.conversation import failure, failures_named
from harness.run.machine import MachineWatch
from harness.run.manifest import PRIVATE, EntryModules, SubmissionManifest, is_secret
from harness.run.phases import OVERSIZE_READ
from harness.run.refereed import Order, record_of
from harness.run.reserve import run_gpus
from harness.run.runs import RunOutcome, intent_of, run_place, signed
from harness.run.verdicts import cell_findings, machine_findings
from harness.sandbox.answers import OutOfTime
from harness.sandbox.cell import Cell
from harness.sandbox.layers import Layer
from harness.units import LN2

LABEL: Literal["self-reported"] = "self-reported"
POLL_S = 0.05
MAX_LOG_BYTES = 50_000_000
SHOWN_BYTES = 1 << 16  # of the script's output at each look, so that no flood of it holds the clock up
SCORE_RULES = ("C1-CAUSAL", "C2-NORMALISED", "C3-SCORE-BEFORE-UPDATE", "C4-SINGLE-PASS", "C4-COVERAGE", "A7-BPB")
DATA_RULES = ("A4-TRAIN-NO-VAL", "A4-EVAL-NO-DATA", "A1-SETUP-NO-DATA")
PUBLIC_PREFIX = "fineweb"
_START = "import os,runpy,sys;os.chdir(sys.argv.pop(1));sys.argv.pop(0);runpy.run_path(sys.argv[0],run_name='__main__')"


def seal_script(script: Path, run_dir: Path, variables: Mapping[str, str]) -> artifact.SealedSubmission:
    """Copy the script, read-only, into the run's folder. Raises ``UsageError`` for no script or a foreign variable."""
    for remedy, names in PRIVATE["of_scripts"].items():
        for name in variables.keys() & names:  # a user's value for one of the referee's would be lost without a word
            raise UsageError(f"--env {name}: the referee sets {name}.", remedy=f"fix: {remedy}.")
    if shown := [name for name, value in variables.items() if is_secret(name, value)]:
        text = f"--env {shown[0]}: its name or value looks like a secret, and the signed record shows both."
        raise UsageError(text, remedy="fix: leave it out.")
    if script.is_symlink() or not script.is_file():
        raise UsageError(f"{script} is not a regular file.", remedy="Name a script: harness script train_gpt.py.")
    (path := run_dir / "artifact" / artifact.BUNDLE_FILE).parent.mkdir()
    path.write_bytes(artifact.pack_code({script.name: script.read_bytes()}))
    manifest = SubmissionManifest(f"{script.name} ({LABEL})", EntryModules("", "", "", ""))
    sealed = artifact.sealed_at(path, run_dir / "code", manifest)
    return replace(sealed, bundle_bytes=sealed.raw_bytes)  # it counts as it is


def run_script(context: RunContext, dataset: Dataset, *, pattern: str) -> RunRecord:
    """Run it to its end and return the unsigned record.

    pattern: of the packed model among the files that it writes
    Raises ``RuleBroken``: A1-TRAIN-CLOCK when it runs out of time, S3-PROTOCOL when it fails or prints no score,
    A3-ARTIFACT-BYTES when it leaves no packed model.
    """
    track, sealed, run_dir, limits = context.track, context.sealed, context.run_dir, context.track.limits
    limit = limits.setup_s + limits.train_s + limits.warmup_s + limits.eval_s  # from outside they can't be told apart
    work, data, script = run_dir / "work", run_dir / "data", sealed.root / artifact.PACKAGE / next(iter(sealed.files))
    work.mkdir()
    data.mkdir()
    for part in ("train", "val"):  # the byte ledger stays out: its name would match a script's pattern for shards
        for index, shard in enumerate(find_shards(dataset.folder, part)):
            (data / shard_name(PUBLIC_PREFIX, part, index)).symlink_to(shard)
    told = {
        "DATA_PATH": str(data),
        "TOKENIZER_PATH": str(dataset.folder / dataset.tokenizer),
        "VOCAB_SIZE": str(dataset.vocab_size),
        "MAX_WALLCLOCK_SECONDS": f"{limits.train_s:g}",
        "RUN_ID": "self-reported",
        "PYTHONUNBUFFERED": "1",
    }
    with MachineWatch(run_gpus(track.hardware)) as watch:
        context.machine = watch
        with phase_cell(
            context,
            "script",
            argv=(sys.executable, "-B", "-c", _START, str(work), str(script)),
            limit_s=limit,
            ranks=track.ranks,
            read=(data, dataset.folder),
            write=(work,),
            extra=dict(context.environ) | told,
        ) as cell:
            _await_end(context, cell, limit)
    packed = sorted(path for path in work.glob(pattern) if not path.is_symlink() and path.is_file())
    if len(packed) != 1:
        names = ", ".join(path.name[:60] for path in packed[:5]) or "none"
        text = f"{len(packed)} files of the script match {pattern!r} ({names}); one packed model is wanted."
        raise RuleBroken(artifact.A3_BYTES, text, remedy="Name it with --artifact.")
    most = OVERSIZE_READ * limits.artifact_bytes
    model = read_regular(packed[0], most)
    if len(model) > most:
        raise RuleBroken(artifact.A3_BYTES, f"{packed[0].name} is over {most:,} bytes.", remedy="Compress better.")
    (run_dir / "artifact" / MODEL_FILE).write_bytes(model)
    sizes = artifact.artifact_sizes(track, sealed, len(model))
    # The last score that it printed, for the whole set as it claims; its nats follow from bpb and bytes.
    with (log := context.log_file("script")).open("rb") as file:
        said = read_log(log.name, decode(file.read(MAX_LOG_BYTES)))
    claim = next((run for run in reversed(said) if run.final), said[-1]).final
    if claim is None or not 0 <= claim.bpb.value < 100:
        remedy = "Wanted a line like `final_int8_zlib_roundtrip val_loss:2.1 val_bpb:1.2`."
        raise failure(context, "script", "it printed no final score", remedy=remedy)
    bpb, seconds, n_bytes = claim.bpb.value, context.clock.entries()[-1].seconds, dataset.val_bytes
    score = Score("final", bpb * LN2 * n_bytes, dataset.val_tokens - 1, n_bytes, bpb, True, round(seconds, 6))
    offline = Layer.NETWORK in cell.layers and cell.layers[Layer.NETWORK].in_force
    whole = f"{seconds:.1f} s of {limit:g} s for the whole script; its parts cannot be told apart from outside."
    return record_of(
        context,
        dataset,
        watch,
        kind=LABEL,
        val_targets=dataset.val_tokens - 1,
        sizes=sizes,
        scores=[score],
        running_bpb=[],
        audits=[],
        findings=[
            Finding("A1-TRAIN-CLOCK", Verdict.WARN, whole),
            artifact.judge_sizes(sizes),
            *cell_findings(context),
            Finding("A4-NO-NETWORK", Verdict.PASS if offline else Verdict.WARN, "no network but a loopback for ranks."),
            *(Finding(rule, Verdict.UNKNOWN, f"{LABEL}: the script scored itself.") for rule in SCORE_RULES),
            *(Finding(rule, Verdict.UNKNOWN, f"{LABEL}: the script reads all shards.") for rule in DATA_RULES),
            dataset.disjoint,
            *machine_findings(track, watch),
        ],
        artifact_digest=hashlib.sha256(model).hexdigest(),
    )


def _await_end(context: RunContext, cell: Cell, limit: float) -> None:
    """Show what the script prints until all of its ranks have ended, with 0, or ``limit`` seconds are over."""
    log, rest = context.log_file("script"), b""
    log.touch()

    def show(new: bytes) -> bytes:
        *whole, last = (rest + new).split(b"\n")
        for line in whole:
            if text := decode(line.rsplit(b"\r", 1)[-1]).rstrip():
                context.progress.note(text)
        return last[-SHOWN_BYTES:]  # the line that it is in

    with (
        log.open("rb") as said,
        context.progress.stage("script", None) as shown,
        context.clock.span("script", limit_s=limit) as span,
    ):
        # its clock does not wait: showing what is printed may take long, or for ever
        in_time = "MAX_WALLCLOCK_SECONDS holds the track's limit for training."
        with failures_named(context, cell, span, rule=A1_TRAIN_CLOCK, remedy=in_time):
            while None in (codes := cell.exit_codes()) and not any(codes):
                time.sleep(POLL_S)
                shown.update(0, f"of at most {limit:.0f} s")
                rest = show(said.read(SHOWN_BYTES))
            ended = cell.kill()  # the first report, where the clock was there before
            if ended.late and any(code is not None and code < 0 for code in cell.exit_codes()):
                raise OutOfTime
        show(said.read(SHOWN_BYTES) + b"\n")
    if code := next((code for code in codes if code), 0):
        raise failure(context, "script", f"ended with exit code {code}", remedy="Mend it: the exit code must be 0.")


def submit_script(order: Order, seed: int, *, pattern: str) -> RunOutcome:
    """Announce, run, sign. Raises ``UsageError`` before anything starts, else what ``run_script`` raises."""
    track = load_track(order.track_name)
    track.refuse_when_closed(utc_now())
    if not (parts := Path(pattern).parts) or {"/", ".."} & {*parts}:
        raise UsageError(f"--artifact {pattern!r} names no files in the script's folder.", remedy="Example: '*.ptz'.")
    with run_place(order, track, seed, sign=True) as (dataset, run_dir):
        sealed = seal_script(order.source, run_dir, order.environ)
        context = RunContext(track, seed, run_dir, sealed, order.environ, order.progress, audit_secret=b"")
        context.config = dict(sorted(order.environ.items()))
        context.intent = sign_entry(intent_of(context, dataset, utc_now()), order.records_dir, keys_dir()).digest
        return signed(run_script(context, dataset, pattern=pattern), run_dir, order.records_dir)
