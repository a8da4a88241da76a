"""Run records that people can trust: signed, chained, announced before training, verified from their own figures.

``records/README.md`` shows the layout of a records folder. Each public function opens it under a lock, so concurrent
writers never fork the chain.
A record's *digest* is the SHA-256 of its signed payload (the in-toto Statement), so it names content and not a file.
"""

from harness.record.canonical import canonical_digest as canonical_digest
from harness.record.canonical import file_digest as file_digest
from harness.record.canonical import utc_now as utc_now
from harness.record.predicate import Intent as Intent
from harness.record.signing import open_signing_key as open_signing_key
from harness.record.store import announce as announce
from harness.record.store import check_announcer as check_announcer
from harness.record.store import countersign as countersign
from harness.record.store import load_record as load_record
from harness.record.store import load_records as load_records
from harness.record.store import sign_and_store as sign_and_store
from harness.record.verification import verify_folder as verify_folder
