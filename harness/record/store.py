"""Writing entries: one lock a folder, one chain a signer, names that never collide, nothing half-written.

Each signer appends to its own chain of intents, records and reviews, so records of several people can be merged
into one folder without a conflict. A head, signed anew with each entry, makes a chain that was cut short visible.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from harness.errors import CouldNotCheck, RuleBroken
from harness.files import file_digest, write_atomic
from harness.record import dsse, statement
from harness.record.canonical import CLOCK_SLACK, locked, parse_utc
from harness.record.predicate import Head, Intent, Review, RunRecord
from harness.record.signing import SigningKey, load_private, open_listed, open_signing_key

SMALL_MODEL_BYTES = 1_000_000
REMEDY = "`harness verify` shows the state of the folder."


def sign_entry(predicate: Intent | Review, records_dir: Path, keys_dir: Path) -> statement.Entry:
    """Sign and append an intent, before its run, or a review of a record in this folder."""
    of_run = isinstance(predicate, Intent)
    with locked(records_dir):
        key = open_signing_key(keys_dir, records_dir, "runner" if of_run else "reviewer")
        return _Writer(records_dir, key).append("intents" if of_run else "reviews", predicate)


def sign_and_store(record: RunRecord, artifact: Path, records_dir: Path, keys_dir: Path) -> statement.Entry:
    """Sign and append a run's record. ``artifact``: folder of ``model.bin`` and ``code.bundle``.

    The key that announced the run signs its result, also when another became the active one meanwhile.
    Raises ``CouldNotCheck`` when the artifact is not the one the record describes or that key can't sign, and
    ``RuleBroken`` (R5-INTENT) when the run was not announced, or has a record already.
    """
    for name, digest in record.artifact_files.items():
        path = artifact / name
        if (found := file_digest(path)) != digest:
            text = f"{path} is not the file of this record: its SHA-256 is {found[:16]}…; wanted {digest[:16]}…."
            raise CouldNotCheck(text, remedy="Give the artifact folder of this run.")
    with locked(records_dir):
        intent, writer = _announced(record.intent, record.started_at, records_dir, keys_dir)
        if differing := intent_mismatch(intent, record):
            words = f"the run differs from its signed intent in {', '.join(differing)}."
            raise RuleBroken("R5-INTENT", words, remedy="Announce and run it again: `harness submit`.")
        stored = writer.append("runs", record)
        for name, kept in record.artifact_files.items():  # what a repetition from the folder alone needs
            place, data = kept_file(records_dir, kept), (artifact / name).read_bytes()
            if not place.exists() and (name == "code.bundle" or len(data) <= SMALL_MODEL_BYTES):
                write_atomic(place, data, replace=True)
    return stored


def kept_file(records_dir: Path, digest: str) -> Path:
    """Where a folder of records keeps a file of an artifact: by its SHA-256, so seeds share their code."""
    return records_dir / "artifacts" / digest


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
                (Path(scratch) / name).symlink_to(here.absolute())  # not copied: one of holes would fill the disk
        yield Path(scratch)


def load_record(path: Path, folder: str = "runs") -> statement.Entry:
    """Read one record, or entry of another folder, without judging it. Raises ``CouldNotCheck`` for a malformed one."""
    try:
        return statement.read_entry(path, folder)
    except ValueError as error:
        raise CouldNotCheck(f"{path} is damaged: {error}.", remedy=REMEDY) from error


def check_announcer(intent: str, started_at: str, records_dir: Path, keys_dir: Path) -> Intent:
    """The run's intent; raises what :func:`sign_and_store` would for it, but for the artifact."""
    with locked(records_dir, shared=True):
        return _announced(intent, started_at, records_dir, keys_dir)[0]


def _announced(digest: str, started_at: str, records_dir: Path, keys_dir: Path) -> tuple[Intent, "_Writer"]:
    """A run's intent, and the chain of the key that signed it: one chain holds both intent and result.

    The key may have been rotated or have expired since; what counts is that it might sign when the run started, which
    is the date that verification compares with its window.
    """
    for path in sorted((records_dir / "intents").glob(f"*-{digest[:8]}.json")):
        entry = load_record(path, "intents")
        if entry.digest != digest:
            continue
        if not (keys_dir / f"{entry.signer}.pem").exists():
            raise CouldNotCheck(
                f"the run was announced under key {entry.signer[:16]} ({path}); its private half is not in {keys_dir}.",
                remedy="Restore it there, or set GOLF_KEYS_DIR to its folder: that key has to sign the result.",
            )
        writer = _Writer(records_dir, open_listed(load_private(keys_dir, entry.signer), records_dir, started_at))
        intent = writer.own(entry).predicate
        assert isinstance(intent, Intent)
        for earlier in writer.entries:
            if isinstance(earlier.predicate, RunRecord) and earlier.predicate.intent == digest:
                words = f"this intent has a result already: {earlier.path}."
                raise RuleBroken("R5-INTENT", words, remedy="A run has one result: `harness submit` announces another.")
        return intent, writer
    text = f"no signed intent {digest[:16]}… announces this run in {records_dir}."
    raise RuleBroken("R5-INTENT", text, remedy="Keep records/intents with the records.")


class _Writer:
    """One signer's chain in a folder that is locked."""

    def __init__(self, records_dir: Path, key: SigningKey) -> None:
        self.records_dir, self.key = records_dir, key
        self.head_path = records_dir / "heads" / f"{key.keyid}.json"
        self.entries: list[statement.Entry] = []
        for folder in statement.CHAIN_FOLDERS:
            for path in sorted((records_dir / folder).glob("*.json")):
                # what somebody damaged, or forged under this key's id, must not cost a run its signature
                with suppress(CouldNotCheck, ValueError):
                    self.entries.append(self.own(statement.read_entry(path, folder)))

    def append(self, folder: str, predicate: statement.ChainPredicate) -> statement.Entry:
        """Sign it as the next entry, which names the one before. Raises ``CouldNotCheck`` rather than date one back."""
        tip, at = self.tip(), statement.date_of(predicate)
        dates = [statement.date_of(one.predicate) for one in self.entries if not isinstance(one.predicate, RunRecord)]
        latest = max((at, *dates))  # their one form sorts by time; a record is dated by the start of its run
        if not isinstance(predicate, RunRecord) and parse_utc(latest) - parse_utc(at) > CLOCK_SLACK:
            raise CouldNotCheck(
                f"this machine's clock says {at}, and {self.records_dir} holds an entry of this key that is dated "
                f"{latest}; `harness verify` would find the new one dated back.",
                remedy="Set the clock. If it was ahead then, go on with another key: harness keys new.",
            )
        linked = msgspec.structs.replace(predicate, predecessor=tip.newest)
        try:
            payload = statement.encode_statement(folder, linked)
            digest = hashlib.sha256(payload).hexdigest()
            path = self.records_dir / folder / statement.file_name(linked, digest)
        except ValueError as error:
            raise CouldNotCheck(
                f"the entry can't be recorded in {self.records_dir / folder}: {error}.",
                remedy="A figure is not finite or too large; the run's log shows where it comes from.",
            ) from error
        if not self.head_path.exists():  # else a kill before the first head would leave an entry without one
            self._write_head(Head(newest="", entries=0))
        write_atomic(path, self._signed(payload), replace=False)
        self._write_head(Head(newest=digest, entries=tip.entries + 1))
        return load_record(path, folder)

    def _signed(self, payload: bytes) -> bytes:
        return dsse.encode(dsse.sign(payload, self.key.keyid, self.key.private))

    def _write_head(self, head: Head) -> None:
        write_atomic(self.head_path, self._signed(statement.encode_statement("heads", head)), replace=True)

    def own(self, entry: statement.Entry) -> statement.Entry:
        """``entry``, if this key signed it."""
        if not dsse.is_signed_by(entry.envelope, self.key.private.public_key()):
            raise CouldNotCheck(f"{entry.path} does not carry this signer's signature.", remedy=REMEDY)
        return entry

    def tip(self) -> Head:
        """The end of the chain ("" for none); follows entries that an interrupted write left beyond the head.

        Raises ``CouldNotCheck`` when the head is missing, forged or names an entry that is not there.
        """
        if not self.head_path.exists():
            if self.entries:
                text = f"{self.head_path} is missing, but {len(self.entries)} entries of this signer exist."
                raise CouldNotCheck(text, remedy=REMEDY)
            return Head("", 0)
        head = self.own(load_record(self.head_path, "heads")).predicate
        assert isinstance(head, Head)
        newest, entries = head.newest, head.entries
        if head != Head("", 0) and newest not in {entry.digest for entry in self.entries}:
            raise CouldNotCheck(f"{self.head_path} names entry {newest[:16]}…, not in the folder.", remedy=REMEDY)
        successors = {entry.predecessor: entry.digest for entry in self.entries}
        while newest in successors:
            newest, entries = successors[newest], entries + 1
        return Head(newest, entries)


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
    try:
        drawn = {hashlib.sha256(bytes.fromhex(audit.entropy)).hexdigest() for audit in record.audits}
    except ValueError:
        drawn = set()
    later = record.kind == "refereed" and record.provenance
    if (intent.audit_commitment or later) and drawn != {intent.audit_commitment}:
        differing.append("audit secret")
    return differing
