"""One unmodified script in the style of the public ``train_gpt.py``, from its file to a signed record.

It trains, packs and scores itself. Enforced: the sandbox (no network beyond loopback between ranks, no files but its
own and the data), the clock over the whole script, the cap on script and packed model. Not enforced: anything about the
score. The script reads validation shards, so the record's kind, its name and every finding on the score say
*self-reported*.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.config.variables import keys_dir
from harness.data import Dataset
from harness.data.shards import find_shards, shard_name
from harness.errors import RuleBroken, UsageError
from harness.files import read_regular
from harness.progress import Reporter
from harness.protocol.session import MODEL_FILE, Scalar
from harness.record import Intent, announce, canonical_digest, utc_now
from harness.record.predicate import RunRecord, Score, SubmissionInfo
from harness.review.logs import decode, read_log
from harness.rules import Finding, Verdict
from harness.run.artifact import A3_BYTES, BUNDLE_FILE, artifact_sizes, judge_sizes, pack_code, unpack_code
from harness.run.cells import gpu_devices, guarded_folders, rank_environments
from harness.run.conversation import log_tail, slowed_by_others
from harness.run.machine import MachineWatch
from harness.run.phases import OVERSIZE_READ
from harness.run.refereed import record_of
from harness.run.reserve import reserved_cores, run_gpus
from harness.run.runs import RunOutcome, run_place, signed
from harness.run.verdicts import machine_findings
from harness.sandbox.cell import LIMIT, Cell
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.spec import CellSpec
from harness.units import LN2

LABEL: Literal["self-reported"] = "self-reported"
POLL_S = 0.05
MAX_LOG_BYTES = 50_000_000
SHOWN_BYTES = 1 << 16  # of the script's output at each look, so that no flood of it holds the clock up
SCORE_RULES = ("C1-CAUSAL", "C2-NORMALISED", "C3-SCORE-BEFORE-UPDATE", "C4-SINGLE-PASS", "C4-COVERAGE", "A7-BPB")
DATA_RULES = ("A4-TRAIN-NO-VAL", "A4-EVAL-NO-DATA", "A1-SETUP-NO-DATA")
PUBLIC_PREFIX = "fineweb"
INSTEAD = {
    "DATA_PATH": "use --data",
    "TOKENIZER_PATH": "use --data",
    "VOCAB_SIZE": "use --track",
    "MAX_WALLCLOCK_SECONDS": "use --track",
    "SEED": "use --seed",
    "RANK": "use --track",
    "LOCAL_RANK": "use --track",
    "WORLD_SIZE": "use --track",
    "MASTER_ADDR": "leave it out",
    "MASTER_PORT": "leave it out",
    "OMP_NUM_THREADS": "use --track",
    "PYTHONUNBUFFERED": "leave it out",
    "RUN_ID": "leave it out",
}
_START = "import os,runpy,sys;os.chdir(sys.argv.pop(1));sys.argv.pop(0);runpy.run_path(sys.argv[0],run_name='__main__')"


@dataclass(frozen=True)
class Script:
    """A sealed script. artifact: pattern of the packed model among the files that it writes; config: its variables."""

    path: Path
    code_digest: str
    raw_bytes: int
    artifact: str
    config: dict[str, Scalar]


def seal_script(script: Path, run_dir: Path, *, artifact: str, variables: Mapping[str, str]) -> Script:
    """Copy the script, read-only, into the run's folder. Raises ``UsageError`` for no script or a foreign variable."""
    for name in variables:  # a user's value for one of the referee's would be lost without a word
        if name in INSTEAD:
            raise UsageError(f"--env {name}: the referee sets {name}.", remedy=f"fix: {INSTEAD[name]}.")
    if script.is_symlink() or not script.is_file():
        raise UsageError(f"{script} is no regular file.", remedy="Name a script: harness script train_gpt.py.")
    data = script.read_bytes()
    bundle, code = pack_code({script.name: data}), run_dir / "code"
    code.mkdir()
    unpack_code(bundle, code)
    (run_dir / "artifact").mkdir()
    (run_dir / "artifact" / BUNDLE_FILE).write_bytes(bundle)
    digest = hashlib.sha256(bundle).hexdigest()
    return Script(code / script.name, digest, len(data), artifact, dict(sorted(variables.items())))


def run_script(
    script: Script,
    *,
    track: Track,
    dataset: Dataset,
    seed: int,
    run_dir: Path,
    progress: Reporter,
    intent_digest: str,
) -> RunRecord:
    """Run it to its end and return the unsigned record.

    Raises ``RuleBroken``: A1-TRAIN-CLOCK when it runs out of time, S3-PROTOCOL when it fails or prints no score,
    A3-ARTIFACT-BYTES when it leaves no packed model.
    """
    started_at, clock = utc_now(), Ledger()
    work, data, log = run_dir / "work", run_dir / "data", run_dir / "logs" / "script.log"
    for folder in (work, data, log.parent):
        folder.mkdir()
    for part in ("train", "val"):  # the byte ledger stays out: its name would match a script's pattern for shards
        for index, shard in enumerate(find_shards(dataset.folder, part)):
            (data / shard_name(PUBLIC_PREFIX, part, index)).symlink_to(shard)
    spec = CellSpec(
        name="script",
        argv=(sys.executable, "-B", "-c", _START, str(work), str(script.path)),
        env={name: str(value) for name, value in script.config.items()}
        | {
            "DATA_PATH": str(data),
            "TOKENIZER_PATH": str(dataset.tokenizer),
            "VOCAB_SIZE": str(dataset.vocab_size),
            "MAX_WALLCLOCK_SECONDS": f"{track.limits.train_s:g}",
            "SEED": str(seed),
            "RUN_ID": "self-reported",
            "OMP_NUM_THREADS": str(max(1, track.hardware.cpu_cores // track.ranks)),
            "PYTHONUNBUFFERED": "1",
        },
        rank_env=rank_environments(track.ranks),
        policy=SandboxPolicy(
            read=(script.path.parent, data, dataset.folder),
            write=(work,),
            network="loopback" if track.ranks > 1 else "local",
            devices=gpu_devices() if track.hardware.gpus else (),
            memory_bytes=track.limits.memory_bytes,
            file_bytes=track.limits.checkpoint_bytes,
            processes=track.limits.processes,
            packages=None,
            tools=True,
            guarded=guarded_folders(),
            cores=reserved_cores(),
        ),
        log_file=log,
    )
    with MachineWatch(run_gpus(track.hardware)) as watch, Cell(spec, strict=track.official) as cell:
        cell.start()
        _await_end(cell, track, clock, progress, log, watch)
        survivors = cell.kill("the script is over").survivors
    model = _packed_model(work, script.artifact, track)
    (run_dir / "artifact" / MODEL_FILE).write_bytes(model)
    sizes = artifact_sizes(track, bundle_bytes=script.raw_bytes, raw_bytes=script.raw_bytes, model_bytes=len(model))
    seconds = clock.entries()[-1].seconds
    missing = sorted(layer for layer, state in cell.layers.items() if not state.in_force)
    layered = Verdict.WARN if missing else Verdict.PASS
    ended = (
        f"{seconds:.1f} s of {limit_s(track):g} s for the whole script; its parts cannot be told apart from outside."
    )
    layers = f"missing: {', '.join(missing)}." if missing else "all layers in force."
    outlived = Verdict.FAIL if survivors else Verdict.PASS
    return record_of(
        run_dir,
        track,
        dataset,
        clock,
        watch,
        cell.layers,
        kind=LABEL,
        started_at=started_at,
        submission=SubmissionInfo(
            name=f"{script.path.name} ({LABEL})",
            code_digest=script.code_digest,
            files={script.path.name: hashlib.sha256(script.path.read_bytes()).hexdigest()},
            config=script.config,
            config_digest=canonical_digest(script.config),
            parameters=0,
            seed=seed,
        ),
        val_targets=dataset.val_tokens - 1,
        sizes=sizes,
        scores=[_claimed_score(dataset, seconds, log)],
        running_bpb=[],
        loss_curve=[],
        audits=[],
        findings=[
            Finding("A1-TRAIN-CLOCK", Verdict.WARN, ended),
            judge_sizes(sizes),
            Finding("S1-ISOLATION", layered, layers),
            Finding("S2-NO-SURVIVORS", outlived, f"{survivors} processes outlived the script."),
            Finding("A4-NO-NETWORK", layered, "no network beyond loopback between ranks."),
            *(Finding(rule, Verdict.UNKNOWN, f"{LABEL}: the script scored itself.") for rule in SCORE_RULES),
            *(Finding(rule, Verdict.UNKNOWN, f"{LABEL}: the script reads all shards.") for rule in DATA_RULES),
            dataset.disjoint,
            *machine_findings(track, watch),
        ],
        artifact_digest=hashlib.sha256(model).hexdigest(),
        intent=intent_digest,
    )


def limit_s(track: Track) -> float:
    """Seconds for the whole script: set-up, training, packaging and evaluation cannot be told apart from outside."""
    return track.limits.setup_s + track.limits.train_s + track.limits.warmup_s + track.limits.eval_s


def _await_end(cell: Cell, track: Track, clock: Ledger, progress: Reporter, log: Path, watch: MachineWatch) -> None:
    limit, rest = limit_s(track), b""
    log.touch()
    with (
        log.open("rb") as said,
        progress.stage("script", limit, "s") as shown,
        clock.span("script", limit_s=limit) as span,
    ):
        with cell.armed(span.deadline_ns):  # a clock of its own: showing what is printed may take long, or for ever
            while None in (codes := cell.exit_codes()) and not any(codes):
                time.sleep(POLL_S)
                shown.update(min(limit, (time.monotonic_ns() - span.start_ns) / 1e9))
                rest = _show(said.read(SHOWN_BYTES), rest, progress)
        ended = cell.kill("the script is over")  # the first report, where the clock was there before
        if ended.reason == LIMIT and any(code is not None and code < 0 for code in cell.exit_codes()):
            if slowed := slowed_by_others("script", f"not done after {limit:g} s", watch, limit):
                raise slowed
            raise RuleBroken(
                "A1-TRAIN-CLOCK",
                f"the script had not ended after {limit:g} s (everything was stopped {ended.stop_ms:.0f} ms after).",
                log=log_tail(log),
                remedy="MAX_WALLCLOCK_SECONDS holds the track's limit for training.",
            )
        _show(said.read(SHOWN_BYTES) + b"\n", rest, progress)
    if any(codes):
        code = next(code for code in codes if code)
        raise RuleBroken(
            "S3-PROTOCOL",
            f"the script ended with exit code {code}.",
            log=log_tail(log),
            remedy="Mend the script; it must end with exit code 0.",
        )


def _show(new: bytes, rest: bytes, progress: Reporter) -> bytes:
    """Show the lines that the script has ended since the last look; returns the line that it is in."""
    *whole, rest = (rest + new).split(b"\n")
    for line in whole:
        if text := decode(line.rsplit(b"\r", 1)[-1]).rstrip():
            progress.note(text)
    return rest[-SHOWN_BYTES:]


def _packed_model(work: Path, pattern: str, track: Track) -> bytes:
    found = sorted(path for path in work.glob(pattern) if not path.is_symlink() and path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name[:60] for path in found[:5]) or "none"
        raise RuleBroken(
            A3_BYTES,
            f"{len(found)} files of the script match {pattern!r} ({names}); one packed model is wanted.",
            remedy="Name it with --artifact.",
        )
    most = OVERSIZE_READ * track.limits.artifact_bytes
    data = read_regular(found[0], most)
    if len(data) > most:
        raise RuleBroken(A3_BYTES, f"{found[0].name} is over {most:,} bytes.", remedy="Compress better.")
    return data


def _claimed_score(dataset: Dataset, seconds: float, log: Path) -> Score:
    """The last score that the script printed, for the whole set as it claims; its nats follow from bpb and bytes."""
    with log.open("rb") as file:
        runs = read_log(log.name, decode(file.read(MAX_LOG_BYTES)))
    claim = next((run for run in reversed(runs) if run.final), runs[-1]).final
    if claim is None or not 0 <= claim.bpb.value < 100:
        raise RuleBroken(
            "S3-PROTOCOL",
            "the script printed no final score.",
            log=log_tail(log),
            remedy="Wanted a line like `final_int8_zlib_roundtrip val_loss:2.1 val_bpb:1.2`.",
        )
    nats = claim.bpb.value * LN2 * dataset.val_bytes
    return Score("final", nats, dataset.val_tokens - 1, dataset.val_bytes, claim.bpb.value, True, round(seconds, 6))


def submit_script(
    *,
    script: Path,
    track_name: str,
    dataset_name: str | None,
    seed: int,
    artifact: str,
    variables: Mapping[str, str],
    records_dir: Path,
    progress: Reporter,
) -> RunOutcome:
    """Announce, run, sign. Raises ``UsageError`` before anything starts, else what ``run_script`` raises."""
    track = load_track(track_name)
    track.refuse_when_closed(utc_now())
    with run_place(track, dataset_name, seed, progress, records_dir) as (dataset, run_dir):
        sealed = seal_script(script, run_dir, artifact=artifact, variables=variables)
        intent = Intent(
            run_id=run_dir.name,
            announced_at=utc_now(),
            track=track.name,
            track_digest=track.digest,
            submission=f"{script.name} ({LABEL})",
            code_digest=sealed.code_digest,
            config_digest=canonical_digest(sealed.config),
            data_fingerprint=dataset.fingerprint,
            seed=seed,
        )
        digest = announce(intent, records_dir, keys_dir())
        record = run_script(
            sealed,
            track=track,
            dataset=dataset,
            seed=seed,
            run_dir=run_dir,
            progress=progress,
            intent_digest=digest,
        )
        return signed(record, run_dir, records_dir)
