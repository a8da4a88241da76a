"""in-toto Statements v1 (https://in-toto.io/Statement/v1) around the predicates of this project, and their files.

One kind of entry a folder: the folder, its predicate types and the msgspec struct that types them belong together in
:data:`KINDS`. The typed decoding is the first half of the schema check; ``harness verify`` also validates what was
signed against the committed JSON Schema (2020-12) of its version.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from harness.record import dsse
from harness.record.canonical import canonical_bytes, parse_utc, read_bounded, strict_json
from harness.record.predicate import Head, Intent, Review, RunRecord

FOLDER = Path(__file__).parent
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

ChainPredicate = RunRecord | Intent | Review
Predicate = ChainPredicate | Head

ORIGIN = "https://parameter-golf.example"
KINDS: dict[str, tuple[tuple[str, ...], type[Predicate]]] = {
    "runs": ((f"{ORIGIN}/run-record/v1", f"{ORIGIN}/run-record/v2"), RunRecord),
    "intents": ((f"{ORIGIN}/intent/v1",), Intent),
    "reviews": ((f"{ORIGIN}/review/v1",), Review),
    "heads": ((f"{ORIGIN}/chain-head/v1",), Head),
}
CHAIN_FOLDERS = ("intents", "runs", "reviews")
_NAME_PART = re.compile(r"[A-Za-z0-9_.]{1,64}")


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str = msgspec.field(name="_type")
    subject: list[dict[str, Any]]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw


@dataclass(frozen=True)
class Entry:
    """One well-formed file of a records folder. ``digest`` is the SHA-256 of the signed payload."""

    path: Path
    folder: str
    predicate_type: str
    digest: str
    envelope: dsse.Envelope
    predicate: Predicate

    @property
    def name(self) -> str:
        """Its place in the records folder, such as ``runs/….json``: what findings call it."""
        return f"{self.folder}/{self.path.name}"

    @property
    def signer(self) -> str:
        """Key id that the envelope claims; proved only by checking the signature."""
        return self.envelope.keyid

    @property
    def record(self) -> RunRecord:
        """The run record that it holds, in a file under ``runs/``."""
        assert isinstance(self.predicate, RunRecord)
        return self.predicate

    @property
    def predecessor(self) -> str:
        """Digest of the signer's entry before this one; "" for the first, and for a head."""
        return "" if isinstance(self.predicate, Head) else self.predicate.predecessor


def subjects_of(predicate: Predicate) -> list[dict[str, Any]]:
    """What an entry is about, each with its SHA-256: for a run its artifact, code bundle and data files."""
    if isinstance(predicate, RunRecord):
        found = {f"data/{predicate.data.name}/{name}": digest for name, digest in predicate.data.files.items()}
        found |= {f"artifact/{name}": digest for name, digest in predicate.artifact_files.items()}
    elif isinstance(predicate, Intent):
        found = {"artifact/code.bundle": predicate.code_digest}
    else:
        found = {"record": predicate.record} if isinstance(predicate, Review) else {"entry": predicate.newest}
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(found.items())]


def encode_statement(folder: str, predicate: Predicate) -> bytes:
    """The payload to sign. Raises ``ValueError`` for figures that JSON can't carry, such as NaN."""
    document = {
        "_type": STATEMENT_TYPE,
        "subject": subjects_of(predicate),
        "predicateType": KINDS[folder][0][-1],
        "predicate": msgspec.to_builtins(predicate),
    }
    return canonical_bytes(document)


def date_of(predicate: Predicate) -> str:
    """When it was signed; of a record, when its run started. "" for a head."""
    if isinstance(predicate, RunRecord):
        return predicate.started_at
    if isinstance(predicate, Intent):
        return predicate.announced_at
    return predicate.reviewed_at if isinstance(predicate, Review) else ""


def file_name(predicate: Predicate, digest: str) -> str:
    """The one name an entry's file has: time, track, seed and digest prefix, all from its own content."""
    parts: tuple[str | int, ...] = ()
    if isinstance(predicate, RunRecord):
        parts = predicate.track.name, predicate.submission.seed
    elif isinstance(predicate, Intent):
        parts = predicate.track, predicate.seed
    stamp = parse_utc(date_of(predicate)).strftime("%Y%m%dT%H%M%SZ")  # a head has no date: it is named after its signer
    for part in parts:
        if not _NAME_PART.fullmatch(str(part)):
            raise ValueError(f"{part!r} can't stand in a file name")
    return "-".join([stamp, *map(str, parts), digest[:8]]) + ".json"


def read_entry(path: Path, folder: str) -> Entry:
    """Read and type-check one file.

    Raises ``ValueError`` if it is not a well-formed entry of its folder, ``CouldNotCheck`` if it can't be read.
    """
    envelope = dsse.decode(read_bounded(path))
    if envelope.payload_type != dsse.PAYLOAD_TYPE:
        raise ValueError(f"payload type is {envelope.payload_type!r}; wanted {dsse.PAYLOAD_TYPE!r}")
    strict_json(envelope.payload)  # refuses what parsers disagree on
    wanted, kind = KINDS[folder]
    try:
        statement = msgspec.json.decode(envelope.payload, type=_Statement)
        if statement.kind != STATEMENT_TYPE or statement.predicate_type not in wanted:
            raise ValueError(
                f"holds {statement.predicate_type!r} in {statement.kind!r}; "
                f"wanted {' or '.join(map(repr, wanted))} in {STATEMENT_TYPE!r}"
            )
        predicate = msgspec.json.decode(statement.predicate, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    if statement.subject != subjects_of(predicate):
        raise ValueError("subjects are not the artifact, code and data that the record names")
    digest = hashlib.sha256(envelope.payload).hexdigest()
    return Entry(path, folder, statement.predicate_type, digest, envelope, predicate)


@cache
def validators() -> dict[str, Any]:
    """Predicate type -> validator by the committed schema."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    documents = [json.loads(path.read_bytes()) for path in FOLDER.glob("*.schema.json")]
    every = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in documents])
    return {one["$id"]: Draft202012Validator(one, registry=every) for one in documents}


@lru_cache(maxsize=256)
def schema_problem(predicate_type: str, payload: bytes) -> str:
    """Where and why what was signed does not pass the committed schema of its version; "" when it does."""
    if (validator := validators().get(predicate_type)) is None:  # heads: a digest and a number
        return ""
    error = next(validator.iter_errors(json.loads(payload)["predicate"]), None)
    return "" if error is None else f"{error.json_path}: {error.message[:300]}"
