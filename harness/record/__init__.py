"""Run records that people can trust: signed, chained, announced before training, verified from their own figures.

Layout of a records folder (all files are canonical JSON, one DSSE envelope each, except ``keys/``)::

    intents/<utc>-<track>-<seed>-<digest8>.json   what will be run; stored before training
    runs/<utc>-<track>-<seed>-<digest8>.json      what the run gave
    reviews/<utc>-<digest8>.json                  a reviewer's counter-signature with his own result
    heads/<keyid>.json                            the newest entry of each signer's chain, and how many there are
    keys/<keyid>.json                             public keys of accepted signers (status, validity window, roles)
    keys/list/<version>.json                      the signed list of them, where there is one
    artifacts/<sha256>                            a run's code.bundle, and its model where that is small

The public functions; each opens the records folder under a lock, so concurrent writers never fork the chain::

    announce(intent: Intent, records_dir: Path, keys_dir: Path) -> str
        Sign and append the intent. Returns its digest, which goes into ``RunRecord.intent``.
        ``intent.predecessor`` is filled in here; leave it "".
    sign_and_store(record: RunRecord, artifact: Path, records_dir: Path, keys_dir: Path) -> StoredRecord
        ``artifact`` is the folder with ``model.bin`` and ``code.bundle``. Refuses (``CouldNotCheck``) unless
        ``record.artifact_digest`` is the SHA-256 of model.bin, ``record.submission.code_digest`` that of code.bundle,
        and ``record.sizes`` are theirs. ``record.predecessor`` is filled in here; leave it "".
        Returns ``StoredRecord(path, digest, record)``; ``record`` is as stored.
    load_record(path: Path) -> StoredRecord
        Read one record without judging signatures, for reports. Raises ``CouldNotCheck`` on a malformed file.
    load_records(records_dir: Path, *, skipped: Callable[[str], None]) -> list[StoredRecord]
        All records under ``runs/`` by time, without the malformed ones: ``skipped`` is told of each.
    check_announcer(intent: str, started_at: str, records_dir: Path, keys_dir: Path) -> None
        Whether ``sign_and_store`` will find the intent and its key. Call it before a run is resumed.
    verify_folder(records_dir: Path, *, trust: Path | None = None, root: str = "") -> VerifyReport
        Level 1, offline. ``report.records[i].findings``, ``report.exit_code``, ``report.verdict``.
    open_signing_key(keys_dir: Path, records_dir: Path) -> SigningKey
        Created on first use (0600); its public half is added to ``records_dir/keys``. Call it early in a run, so that
        a wrong mode or passphrase stops the run before training and not after.
    canonical_digest(value) -> str
        SHA-256 hex of the RFC 8785 form of plain JSON data. ``SubmissionInfo.config_digest`` must be
        ``canonical_digest(config)``.
    file_digest(path: Path) -> str
        SHA-256 hex of a file.
    utc_now() -> str
        "2026-11-24T17:00:00Z", the form of ``RunRecord.started_at`` and ``Intent.announced_at``.

``harness.record.predicate`` holds the record's data model, ``harness.record.entries`` that of intents and reviews.
A record's *digest* is the SHA-256 of its signed payload (the in-toto Statement), so it names content and not a file.
"""

from harness.record.canonical import canonical_digest, file_digest, utc_now
from harness.record.entries import Intent, Review
from harness.record.signing import SigningKey, open_signing_key
from harness.record.store import (
    StoredRecord,
    announce,
    check_announcer,
    countersign,
    load_record,
    load_records,
    sign_and_store,
)
from harness.record.verification import VerifyReport, verify_folder

__all__ = [
    "Intent",
    "Review",
    "SigningKey",
    "StoredRecord",
    "VerifyReport",
    "announce",
    "canonical_digest",
    "check_announcer",
    "countersign",
    "file_digest",
    "load_record",
    "load_records",
    "open_signing_key",
    "sign_and_store",
    "utc_now",
    "verify_folder",
]
