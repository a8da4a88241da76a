"""Synthetic runs for tests of records: right in every figure, and tiny."""

import hashlib
import math
from pathlib import Path

import msgspec

from harness.config.tracks import load_track
from harness.files import file_digest
from harness.record.arithmetic import REQUIRED_RULES, KnownText, known
from harness.record.canonical import canonical_digest
from harness.record.predicate import (
    AUDITS,
    AuditResult,
    BudgetEntry,
    Conditions,
    DataInfo,
    Intent,
    Machine,
    Provenance,
    ReadablePart,
    RunRecord,
    Score,
    Sizes,
    SpanEntry,
    SubmissionInfo,
    TrackInfo,
    Training,
)
from harness.record.statement import Entry
from harness.record.store import load_record, sign_and_store, sign_entry
from harness.rules import Finding, Verdict
from harness.run.artifact import pack_code
from harness.sandbox.layers import Layer


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


known().data["sotu"][digest_of("data")] = KnownText(24, 4000, 9000)  # in tests this short text stands for the real one


def make_audits(draw: str) -> list[AuditResult]:
    shared, bounds = ("PASS", 64, 1e-6, 1e-4, digest_of(draw), ""), {"costly targets": 0.11}
    return [AuditResult(name, rule, *shared, bounds.get(name)) for name, rule in AUDITS.items()]


def make_findings(**verdicts: str) -> list[Finding]:
    """A passing finding for every rule; ``A1_TRAIN_CLOCK="FAIL"`` changes one, "" leaves it out."""
    given = {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
    found = {rule: given.get(rule, "PASS") for rule in sorted(REQUIRED_RULES)}
    return [Finding(rule, Verdict(verdict), "made up") for rule, verdict in found.items() if verdict]


def make_artifact(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(f"model of seed {seed} {folder.name}".encode())
    (folder / "code.bundle").write_bytes(pack_code({"train/loop.py": b"steps = 50\n"}))
    return folder


def make_score(stage: str, nats: float, targets: int = 4000, n_bytes: int = 9000) -> Score:
    return Score(stage, nats, targets, n_bytes, nats / (math.log(2) * n_bytes), True, 3.25)


def make_record(
    artifact: Path, seed: int, *, nats: float = 12000.5, started_at: str = "2026-11-24T17:00:00Z", **changes
):
    track = load_track("smoke")
    config = {"NUM_LAYERS": 4, "MATRIX_LR": 0.025, "MUON_EQ_R": True, "SHAPE": "linear", "NOTHING": None}
    model, code = (artifact / "model.bin"), (artifact / "code.bundle")
    model_bytes, code_bytes = model.stat().st_size, code.stat().st_size
    final = make_score("final", nats)
    record = RunRecord(
        run_id=f"run-{seed}-{artifact.name}",
        kind="refereed",
        harness_version="0.1.0",
        started_at=started_at,
        track=TrackInfo(track.name, track.digest, track.official, msgspec.to_builtins(track.readings)),
        submission=SubmissionInfo(
            "sample", file_digest(code), {"a.py": digest_of("a")}, config, canonical_digest(config), 12345, seed
        ),
        data=DataInfo(track.dataset, digest_of("data"), {"train_0.bin": digest_of("t")}, 24, 4000, 9000, 100_000),
        machine=Machine("Linux", "6.1", "a CPU", 2, 8 << 30, [], "3.11.9", {"torch": "2.13.0"}),
        isolation=dict.fromkeys(Layer, "in force"),
        spans=[
            SpanEntry("setup", 0.0, 1.5, 60.0, ""),
            SpanEntry("train", 1.5, 88.25, 90.0, "train"),
            SpanEntry("package", 90.0, 4.5, track.limits.package_s, "eval"),
            SpanEntry("eval", 95.0, 30.125, track.limits.eval_s, "eval"),
        ],
        budgets=[BudgetEntry("train", 88.25, 90.0), BudgetEntry("eval", 34.625, track.limits.eval_s)],
        sizes=Sizes(code_bytes, 3 * code_bytes, model_bytes, code_bytes + model_bytes, 1_000_000),
        scores=[make_score("float", nats - 10), make_score("packed", nats + 100), final],
        baselines_bpb={"uniform_bytes": 8.0, "xz_9": 2.2},
        running_bpb=[(2000, 1.95), (4000, final.bpb)],
        loss_curve=[(1, 6.9), (50, 4.2)],
        audits=make_audits(str(artifact)),
        findings=make_findings(),
        artifact_digest=file_digest(model),
        intent="",
        predecessor="",
        provenance=Provenance(digest_of("referee"), "", "glibc 2.36", "", "", "", {"numpy==2.0": digest_of("numpy")}),
        training=Training(50, "complete"),
        conditions=Conditions(0.01, 0.0, 0, False, []),
        readable=[ReadablePart("numpy 2.0", 2, 1000, digest_of("numpy"))],
    )
    return msgspec.structs.replace(record, **changes)


def make_intent(record: RunRecord, announced_at: str = "") -> Intent:
    run = record.submission
    return Intent(
        record.run_id,
        announced_at or record.started_at,
        record.track.name,
        record.track.digest,
        run.name,
        run.code_digest,
        run.config_digest,
        record.data.fingerprint,
        run.seed,
        audit_commitment=hashlib.sha256(bytes.fromhex(record.audits[0].entropy)).hexdigest() if record.audits else "",
    )


def sign_run(root: Path, artifact: Path, record: RunRecord, *, keys: str = "keys", at: str = "", **changes) -> Entry:
    """Announce, sign and store a run under ``root/records``. ``changes``: what its record says beyond its intent."""
    digest = sign_entry(make_intent(record, at), root / "records", root / keys).digest
    record = msgspec.structs.replace(record, intent=digest, **changes)
    return sign_and_store(record, artifact, root / "records", root / keys)


def stored_records(folder: Path) -> list[Entry]:
    """Every record of a folder, by time."""
    return [load_record(path) for path in sorted((folder / "runs").glob("*.json"))]


def store_run(root: Path, seed: int = 1337, *, name: str = "a", keys: str = "keys", **changes) -> Entry:
    """One synthetic run under ``root/records``, signed with a key of ``root/keys``."""
    artifact = make_artifact(root / "artifacts" / f"{name}-{seed}", seed)
    return sign_run(root, artifact, make_record(artifact, seed, **changes), keys=keys)
