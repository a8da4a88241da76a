"""Writing entries: one lock a folder, one chain a signer, names that never collide, nothing half-written.

Each signer appends to its own chain of intents, records and reviews, so records of several people can be merged
into one folder without a conflict. A head, signed anew with each entry, makes a chain that was cut short visible.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.errors import CouldNotCheck, RuleBroken
from harness.files import write_atomic
from harness.record import dsse
from harness.record.canonical import file_digest, locked, read_bounded
from harness.record.entries import Head, Intent, Review
from harness.record.predicate import RunRecord
from harness.record.signing import SigningKey, load_private, open_listed, open_signing_key
from harness.record.statement import (
    CHAIN_FOLDERS,
    ChainPredicate,
    Entry,
    encode_statement,
    file_name,
    read_entry,
)

SMALL_MODEL_BYTES = 1_000_000
REMEDY = "`harness verify` shows the state of the folder."


@dataclass(frozen=True)
class StoredRecord:
    """A record as it lies in a folder: its file, the digest of its signed payload, its content, its signer's key id."""

    path: Path
    digest: str
    record: RunRecord
    signer: str


def announce(intent: Intent, records_dir: Path, keys_dir: Path) -> str:
    """Sign and append an intent before its run. Returns its digest, for ``RunRecord.intent``."""
    with locked(records_dir):
        key = open_signing_key(keys_dir, records_dir)
        return _append("intents", intent, records_dir, key)[1]


def sign_and_store(record: RunRecord, artifact: Path, records_dir: Path, keys_dir: Path) -> StoredRecord:
    """Sign and append a run's record. ``artifact``: folder of ``model.bin`` and ``code.bundle``.

    The key that announced the run signs its result, also when another became the active one meanwhile.
    Raises ``CouldNotCheck`` when the artifact is not the one the record describes or that key can't sign, and
    ``RuleBroken`` (R5-INTENT) when the run was not announced, or has a record already.
    """
    check_artifact(record, artifact)
    with locked(records_dir):
        intent, key = _announced(record.intent, record.started_at, records_dir, keys_dir)
        _check_announced(record, intent, records_dir)
        path, digest, stored = _append("runs", record, records_dir, key)
        _keep(record, artifact, records_dir)
    assert isinstance(stored, RunRecord)
    return StoredRecord(path, digest, stored, key.keyid)


def kept_file(records_dir: Path, digest: str) -> Path:
    """Where a folder of records keeps a file of an artifact: by its SHA-256, so seeds share their code."""
    return records_dir / "artifacts" / digest


def _keep(record: RunRecord, artifact: Path, records_dir: Path) -> None:
    """Keep what a repetition from the folder alone needs: the code, and a model that is small."""
    for name, digest in record.artifact_files.items():
        path, data = kept_file(records_dir, digest), (artifact / name).read_bytes()
        if not path.exists() and (name == "code.bundle" or len(data) <= SMALL_MODEL_BYTES):
            write_atomic(path, data, replace=True)


@contextmanager
def gathered(record: RunRecord, records_dir: Path, given: Path | None) -> Iterator[Path]:
    """A folder with the record's ``model.bin`` and ``code.bundle``: what ``given`` lacks, the records may keep."""
    wanted = record.artifact_files
    if given is not None and (not given.is_dir() or all((given / name).is_file() for name in wanted)):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="golf-artifact-") as scratch:
        for name, digest in wanted.items():
            here = given / name if given is not None and (given / name).is_file() else kept_file(records_dir, digest)
            if here.is_file():
                shutil.copyfile(here, Path(scratch) / name)
        yield Path(scratch)


def countersign(review: Review, records_dir: Path, keys_dir: Path) -> Path:
    """Sign and append a review of a record in this folder. Returns the review's file."""
    with locked(records_dir):
        key = open_signing_key(keys_dir, records_dir)
        return _append("reviews", review, records_dir, key)[0]


def load_record(path: Path) -> StoredRecord:
    """Read one record without judging it. Raises ``CouldNotCheck`` when the file is malformed."""
    entry = _sound(path, "runs")
    assert isinstance(entry.predicate, RunRecord)
    return StoredRecord(path, entry.digest, entry.predicate, entry.signer)


def load_records(records_dir: Path, *, skipped: Callable[[str], None]) -> list[StoredRecord]:
    """Every readable record of a folder, by time, without judging them.

    skipped: called with a sentence for each file that is left out; one that somebody damaged must cost nobody a run
    """
    records = []
    for path in sorted((records_dir / "runs").glob("*.json")):
        try:
            records.append(load_record(path))
        except CouldNotCheck as error:
            skipped(f"{path.name} is left out: {error.message} {error.remedy}")
    return records


def check_announcer(intent: str, started_at: str, records_dir: Path, keys_dir: Path) -> None:
    """Raise what :func:`sign_and_store` would for a run with this intent, as far as it lies with the key."""
    with locked(records_dir, shared=True):
        _announced(intent, started_at, records_dir, keys_dir)


def check_artifact(record: RunRecord, artifact: Path) -> None:
    """Raise ``CouldNotCheck`` unless the two files in ``artifact`` have the record's digests and sizes."""
    sizes = {"model.bin": record.sizes.model_bytes}
    for name, digest in record.artifact_files.items():
        path, size = artifact / name, sizes.get(name)
        found, length = file_digest(path), path.stat().st_size
        if found != digest or size not in (None, length):
            raise CouldNotCheck(
                f"{path} is not the file of this record: {length:,} bytes with SHA-256 {found[:16]}…; "
                f"wanted {digest[:16]}…" + (f" with {size:,} bytes." if size is not None else "."),
                remedy="Give the artifact folder of this run.",
            )


def _append(
    folder: str, predicate: ChainPredicate, records_dir: Path, key: SigningKey
) -> tuple[Path, str, ChainPredicate]:
    tip = find_tip(records_dir, key)
    linked = msgspec.structs.replace(predicate, predecessor=tip.newest)
    try:
        payload = encode_statement(folder, linked)
        digest = hashlib.sha256(payload).hexdigest()
        path = records_dir / folder / file_name(linked, digest)
    except ValueError as error:
        raise CouldNotCheck(
            f"the entry can't be recorded in {records_dir / folder}: {error}.",
            remedy="A figure is not finite or too large; the run's log shows where it comes from.",
        ) from error
    if not head_path(records_dir, key.keyid).exists():  # else a kill before the first head would leave an entry without
        _write_head(Head(newest="", entries=0), records_dir, key)
    write_atomic(path, dsse.encode(dsse.sign(payload, key.keyid, key.private)), replace=False)
    _write_head(Head(newest=digest, entries=tip.entries + 1), records_dir, key)
    return path, digest, linked


def _write_head(head: Head, records_dir: Path, key: SigningKey) -> None:
    payload = encode_statement("heads", head)
    signed = dsse.encode(dsse.sign(payload, key.keyid, key.private))
    write_atomic(head_path(records_dir, key.keyid), signed, replace=True)


def head_path(records_dir: Path, keyid: str) -> Path:
    """The file that names the newest entry of a signer's chain."""
    return records_dir / "heads" / f"{keyid}.json"


def find_tip(records_dir: Path, key: SigningKey) -> Head:
    """The end of the signer's chain ("" for none); follows entries that an interrupted write left beyond the head.

    Raises ``CouldNotCheck`` when the head is missing, forged or names an entry that is not there.
    """
    successors, known = _links(records_dir, key.keyid)
    path = head_path(records_dir, key.keyid)
    if not path.exists():
        if known:
            raise CouldNotCheck(f"{path} is missing, but {len(known)} entries of this signer exist.", remedy=REMEDY)
        return Head("", 0)
    head = _own(path, "heads", key).predicate
    assert isinstance(head, Head)
    newest, entries = head.newest, head.entries
    if newest not in known and (newest, entries) != ("", 0):  # a head before the first entry names none
        raise CouldNotCheck(f"{path} names the entry {newest[:16]}…, which is not in the folder.", remedy=REMEDY)
    while newest in successors:
        following = successors[newest]
        newest, entries = _own(following, following.parent.name, key).digest, entries + 1
    return Head(newest, entries)


def _sound(path: Path, folder: str) -> Entry:
    try:
        return read_entry(path, folder)
    except ValueError as error:
        raise CouldNotCheck(f"{path} is damaged: {error}.", remedy=REMEDY) from error


def _own(path: Path, folder: str, key: SigningKey) -> Entry:
    entry = _sound(path, folder)
    if not dsse.is_signed_by(entry.envelope, entry.envelope.signatures[0], key.private.public_key()):
        raise CouldNotCheck(f"{path} does not carry this signer's signature.", remedy=REMEDY)
    return entry


def _links(records_dir: Path, keyid: str) -> tuple[dict[str, Path], set[str]]:
    """Predecessor digest -> file, and the digests of all entries that claim this signer. Damaged files are left out."""
    successors: dict[str, Path] = {}
    known: set[str] = set()
    for folder in CHAIN_FOLDERS:
        for path in sorted((records_dir / folder).glob("*.json")):
            try:
                envelope = json.loads(read_bounded(path))
                if envelope["signatures"][0]["keyid"] != keyid:
                    continue
                payload = base64.b64decode(envelope["payload"])
                successors[json.loads(payload)["predicate"]["predecessor"]] = path
                known.add(hashlib.sha256(payload).hexdigest())
            except (CouldNotCheck, ValueError, KeyError, TypeError, IndexError, RecursionError):
                continue
    return successors, known


def _check_announced(record: RunRecord, intent: Intent, records_dir: Path) -> None:
    differing = intent_mismatch(intent, record)
    if differing:
        raise RuleBroken(
            "R5-INTENT",
            f"the run differs from its signed intent in {', '.join(differing)}.",
            remedy="Announce and run it again: make submit.",
        )
    for path in sorted((records_dir / "runs").glob("*.json")):
        try:
            earlier = read_entry(path, "runs").predicate
        except (ValueError, CouldNotCheck):
            continue  # somebody else's damage must not cost this run its signature; verifying names it
        if isinstance(earlier, RunRecord) and earlier.intent == record.intent:
            raise RuleBroken(
                "R5-INTENT",
                f"this intent has a result already: {path}.",
                remedy="A run has one result: make submit announces another.",
            )


def _announced(digest: str, started_at: str, records_dir: Path, keys_dir: Path) -> tuple[Intent, SigningKey]:
    """A run's intent, and the key that signed it: the one that signs the result, for one chain holds both.

    The key may have been rotated or have expired since; what counts is that it might sign when the run started, which
    is the date that verification compares with its window.
    """
    path, entry = _find_intent(records_dir, digest)
    signer = entry.signer
    if not (keys_dir / f"{signer}.pem").exists():
        raise CouldNotCheck(
            f"the run was announced under key {signer[:16]} ({path}); its private half is not in {keys_dir}.",
            remedy="Restore it there, or set GOLF_KEYS_DIR to its folder: that key has to sign the result.",
        )
    key = open_listed(load_private(keys_dir, signer), records_dir, started_at)
    intent = _own(path, "intents", key).predicate
    assert isinstance(intent, Intent)
    return intent, key


def _find_intent(records_dir: Path, digest: str) -> tuple[Path, Entry]:
    for path in sorted((records_dir / "intents").glob(f"*-{digest[:8]}.json")):
        if (entry := _sound(path, "intents")).digest == digest:
            return path, entry
    raise RuleBroken(
        "R5-INTENT",
        f"no signed intent {digest[:16]}… announces this run in {records_dir}.",
        remedy="Keep records/intents with the records.",
    )


def intent_mismatch(intent: Intent, record: RunRecord) -> list[str]:
    """Names of what a run does not share with its announcement."""
    pairs = {
        "run_id": (intent.run_id, record.run_id),
        "track": (intent.track, record.track.name),
        "track digest": (intent.track_digest, record.track.digest),
        "submission": (intent.submission, record.submission.name),
        "code digest": (intent.code_digest, record.submission.code_digest),
        "config digest": (intent.config_digest, record.submission.config_digest),
        "data fingerprint": (intent.data_fingerprint, record.data.fingerprint),
        "seed": (intent.seed, record.submission.seed),
    }
    differing = [name for name, (announced, ran) in pairs.items() if announced != ran]
    if intent.audit_commitment and {_committed(audit.entropy) for audit in record.audits} != {intent.audit_commitment}:
        differing.append("audit secret")
    return differing


def _committed(entropy: str) -> str:
    try:
        return hashlib.sha256(bytes.fromhex(entropy)).hexdigest()
    except ValueError:
        return ""
