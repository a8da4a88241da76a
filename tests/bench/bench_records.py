"""Level 1 verification: records a second."""

import hashlib
import json
import tempfile
from pathlib import Path

import msgspec
from ratios import Ratio, seconds
from record_samples import make_artifact, make_intent, make_record

from harness.record import dsse
from harness.record.predicate import Head
from harness.record.signing import open_signing_key
from harness.record.statement import encode_statement, file_name
from harness.record.verification import verify_folder
from harness.rules import Finding, Verdict

RECORDS = 1000
POINTS = 190


def measure() -> list[Ratio]:
    with tempfile.TemporaryDirectory(prefix="golf-bench-") as scratch:
        folder = Path(scratch) / "records"
        key = open_signing_key(Path(scratch) / "keys", folder)
        size = _fill(folder, key, make_artifact(Path(scratch) / "artifact", 1))
        rates = sorted(RECORDS / seconds(lambda: _passes(folder)) for _ in range(3))
    note = f"{RECORDS:,} records of {size / 1e3:.0f} kB, their intents and the chain; best of 3"
    return [Ratio("verify", rates[-1], rates[0], rates[-1], 50, False, note, "records/s")]


def _passes(folder: Path) -> None:
    report = verify_folder(folder)
    assert (report.verdict, len(report.records)) == (Verdict.PASS, RECORDS)


def _fill(folder: Path, key, artifact: Path) -> int:
    """A sound chain of records as large as those of real runs, written without waiting for the disk; bytes of one."""
    newest, size = "", 0
    for seed in range(RECORDS):
        record = _life_size(make_record(artifact, seed))
        intent = msgspec.structs.replace(make_intent(record), predecessor=newest)
        newest, _ = _write(folder, "intents", intent, key)
        record = msgspec.structs.replace(record, intent=newest, predecessor=newest)
        newest, size = _write(folder, "runs", record, key)
    payload = encode_statement("heads", Head(newest=newest, entries=2 * RECORDS))
    path = folder / "heads" / f"{key.keyid}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dsse.encode(dsse.sign(payload, key.keyid, key.private)))
    return size


def _life_size(record):
    """As many points, findings and file digests as a run of the smoke track has."""
    final = record.scores[-1]
    running = [(targets, 1.9) for targets in range(20, 20 * POINTS, 20)]
    files = {f"model/part_{i}.py": hashlib.sha256(b"%d" % i).hexdigest() for i in range(100)}
    findings = [Finding(f.rule, f.verdict, f.message + " as seen." * 20) for f in record.findings]
    return msgspec.structs.replace(
        record,
        artifact_digest=hashlib.sha256(b"model %d" % record.submission.seed).hexdigest(),
        running_bpb=[*running, (final.targets, final.bpb)],
        loss_curve=[(step, 4.2) for step in range(1, POINTS)],
        findings=findings,
        submission=msgspec.structs.replace(record.submission, files=files),
    )


def _write(folder: Path, kind: str, predicate, key) -> tuple[str, int]:
    payload = encode_statement(kind, predicate)
    digest = hashlib.sha256(payload).hexdigest()
    path = folder / kind / file_name(predicate, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    return digest, path.write_bytes(dsse.encode(dsse.sign(payload, key.keyid, key.private)))


if __name__ == "__main__":
    print(json.dumps([msgspec.to_builtins(row) for row in measure()]))
