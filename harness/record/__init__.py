"""Run records that people can trust: signed, chained, announced before training, verified from their own figures.

Layout of a records folder (all files are canonical JSON, one DSSE envelope each, except ``keys/``)::

    intents/<utc>-<track>-<seed>-<digest8>.json   what will be run; stored before training
    runs/<utc>-<track>-<seed>-<digest8>.json      what the run gave
    reviews/<utc>-<digest8>.json                  a reviewer's counter-signature with his own result
    heads/<keyid>.json                            the newest entry of each signer's chain, and how many there are
    keys/<keyid>.json                             public keys of accepted signers (status, validity window, roles)
    keys/list/<version>.json                      the signed list of them, where there is one
    artifacts/<sha256>                            a run's code.bundle, and its model where that is small

Each public function opens the folder under a lock, so concurrent writers never fork the chain.
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
