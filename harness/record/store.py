"""Writing entries: one lock a folder, one chain a signer, names that never collide, nothing half-written.

Each signer appends to its own chain of intents, records and reviews, so records of several people can be merged
into one folder without a conflict. A head, signed anew with each entry, makes a chain that was cut short visible.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.errors import CouldNotCheck, RuleBroken
from harness.record import dsse
from harness.record.canonical import file_digest, write_atomic
from harness.record.entries import Head, Intent, Review
from harness.record.keys import SigningKey, open_signing_key
from harness.record.predicate import RunRecord
from harness.record.statement import (
    CHAIN_FOLDERS,
    ChainPredicate,
    Entry,
    MalformedEntry,
    Predicate,
    encode_statement,
    file_name,
    read_entry,
)

LOCK_FILE = ".lock"
LOCK_TIMEOUT_S = 60.0
REMEDY = "`harness verify` shows the state of the folder."


@dataclass(frozen=True)
class StoredRecord:
    """A record as it lies in a folder: its file, the digest of its signed payload, its content, its signer's key id."""

    path: Path
    digest: str
    record: RunRecord
    signer: str


@dataclass(frozen=True)
class Tip:
    """The end of a signer's chain: digest of the newest entry ("" for none) and the number of entries."""

    newest: str
    entries: int


def announce(intent: Intent, records_dir: Path, keys_dir: Path) -> str:
    """Sign and append an intent before its run. Returns its digest, for ``RunRecord.intent``."""
    key = open_signing_key(keys_dir, records_dir)
    with locked(records_dir):
        return _append("intents", intent, records_dir, key)[1]


def sign_and_store(record: RunRecord, artifact: Path, records_dir: Path, keys_dir: Path) -> StoredRecord:
    """Sign and append a run's record. ``artifact``: folder of ``model.bin`` and ``code.bundle``.

    Raises ``CouldNotCheck`` when the artifact is not the one the record describes, and ``RuleBroken`` (R5-INTENT)
    when the run was not announced by this signer, or has a record already.
    """
    key = open_signing_key(keys_dir, records_dir)
    check_artifact(record, artifact)
    with locked(records_dir):
        _check_announced(record, records_dir, key)
        path, digest, stored = _append("runs", record, records_dir, key)
    assert isinstance(stored, RunRecord)
    return StoredRecord(path, digest, stored, key.keyid)


def countersign(review: Review, records_dir: Path, keys_dir: Path) -> Path:
    """Sign and append a review of a record in this folder. Returns the review's file."""
    key = open_signing_key(keys_dir, records_dir)
    with locked(records_dir):
        return _append("reviews", review, records_dir, key)[0]


def load_record(path: Path) -> StoredRecord:
    """Read one record without judging it. Raises ``CouldNotCheck`` when the file is malformed."""
    try:
        entry = read_entry(path, "runs")
    except MalformedEntry as error:
        raise CouldNotCheck(f"{path} is no run record: {error}.", remedy=REMEDY) from error
    assert isinstance(entry.predicate, RunRecord)
    return StoredRecord(path, entry.digest, entry.predicate, entry.signer)


def load_records(records_dir: Path) -> list[StoredRecord]:
    """Every record of a folder, by time, without judging them."""
    return [load_record(path) for path in sorted((records_dir / "runs").glob("*.json"))]


def check_artifact(record: RunRecord, artifact: Path) -> None:
    """Raise ``CouldNotCheck`` unless the two files in ``artifact`` have the record's digests and sizes."""
    wanted = {
        "model.bin": (record.artifact_digest, record.sizes.model_bytes),
        "code.bundle": (record.submission.code_digest, None),
    }
    for name, (digest, size) in wanted.items():
        path = artifact / name
        found, length = file_digest(path), path.stat().st_size
        if found != digest or size not in (None, length):
            raise CouldNotCheck(
                f"{path} is not the file of this record: {length:,} bytes with SHA-256 {found[:16]}…; "
                f"wanted {digest[:16]}…" + (f" with {size:,} bytes." if size is not None else "."),
                remedy="Give the artifact folder of this run.",
            )


@contextmanager
def locked(records_dir: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the folder: alone for writing, or ``shared`` for reading. Raises ``CouldNotCheck`` after a minute.

    The lock is a file and not the folder itself, because network file systems lock only what is open for writing.
    A reader of a folder without a lock file, or without the right to open it, goes ahead: nobody writes there.
    """
    path = records_dir / LOCK_FILE
    if shared:
        try:
            handle = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):
            yield
            return
    else:
        records_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle, records_dir, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, kind: int) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise CouldNotCheck(
                    f"{folder} can't be locked: {error.strerror}.",
                    remedy="Put the records on a file system with locks: GOLF_RECORDS_DIR.",
                ) from error
            if time.monotonic() > deadline:
                raise CouldNotCheck(
                    f"{folder} stayed locked by another process for {LOCK_TIMEOUT_S:.0f} s.",
                    remedy="Wait until that process has ended, then sign again.",
                ) from error
            time.sleep(0.02)
        else:
            return


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


def find_tip(records_dir: Path, key: SigningKey) -> Tip:
    """The end of the signer's chain; follows entries that an interrupted write left beyond the head.

    Raises ``CouldNotCheck`` when the head is missing, forged or names an entry that is not there.
    """
    successors, known = _links(records_dir, key.keyid)
    path = head_path(records_dir, key.keyid)
    if not path.exists():
        if known:
            raise CouldNotCheck(f"{path} is missing, but {len(known)} entries of this signer exist.", remedy=REMEDY)
        return Tip("", 0)
    head = _own(path, "heads", key).predicate
    assert isinstance(head, Head)
    newest, entries = head.newest, head.entries
    if newest not in known and (newest, entries) != ("", 0):  # a head before the first entry names none
        raise CouldNotCheck(f"{path} names the entry {newest[:16]}…, which is not in the folder.", remedy=REMEDY)
    while newest in successors:
        following = successors[newest]
        newest, entries = _own(following, following.parent.name, key).digest, entries + 1
    return Tip(newest, entries)


def _own(path: Path, folder: str, key: SigningKey) -> Entry:
    try:
        entry = read_entry(path, folder)
    except MalformedEntry as error:
        raise CouldNotCheck(f"{path} is damaged: {error}.", remedy=REMEDY) from error
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
                envelope = json.loads(path.read_bytes())
                if envelope["signatures"][0]["keyid"] != keyid:
                    continue
                payload = base64.b64decode(envelope["payload"])
                successors[json.loads(payload)["predicate"]["predecessor"]] = path
                known.add(hashlib.sha256(payload).hexdigest())
            except (ValueError, KeyError, TypeError, IndexError):
                continue
    return successors, known


def _check_announced(record: RunRecord, records_dir: Path, key: SigningKey) -> None:
    intent = _find_intent(records_dir, record.intent, key)
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
        except MalformedEntry:
            continue  # somebody else's damage must not cost this run its signature; verifying names it
        if isinstance(earlier, RunRecord) and earlier.intent == record.intent:
            raise RuleBroken(
                "R5-INTENT",
                f"this intent has a result already: {path}.",
                remedy="A run has one result: make submit announces another.",
            )


def _find_intent(records_dir: Path, digest: str, key: SigningKey) -> Intent:
    for path in sorted((records_dir / "intents").glob(f"*-{digest[:8]}.json")):
        entry = _own(path, "intents", key)
        if entry.digest == digest and isinstance(entry.predicate, Intent):
            return entry.predicate
    raise RuleBroken(
        "R5-INTENT",
        f"no signed intent {digest[:16]}… announces this run in {records_dir}.",
        remedy="Keep records/intents with the records, and sign with the key that announced.",
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
    return [name for name, (announced, ran) in pairs.items() if announced != ran]


__all__ = [
    "Predicate",
    "StoredRecord",
    "Tip",
    "announce",
    "check_artifact",
    "countersign",
    "find_tip",
    "head_path",
    "intent_mismatch",
    "load_record",
    "load_records",
    "locked",
    "sign_and_store",
]
